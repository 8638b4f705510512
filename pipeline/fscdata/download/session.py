"""A download in progress in a folder: its record, its files, its progress."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path

from rich.filesize import decimal

from fscdata.base.errors import FsckitError
from fscdata.base.progress import Progress, Reporter
from fscdata.contract import CaptionSource, index_tar
from fscdata.download.fields import SHARDS, SOURCES, RemoteFile
from fscdata.download.kind import Options
from fscdata.download.record import Source, SourceFile, write_source
from fscdata.steps.content import content_of

STAGING = ".downloading"  # folder of incomplete files
MARGIN = 2**28  # bytes to keep free in addition to the files' size
_OVERHEAD = 0.05  # share of the files' size, for block sizes and directories


@dataclass
class Session:
    """A download into `folder`, whose lock is held.

    `missing` are recorded files that the folder lacks. `bytes` counts the fetched bytes, including
    those of partial files from an earlier run.
    """

    folder: Path
    options: Options
    reporter: Reporter
    source: Source
    missing: list[str] = field(default_factory=list)
    bytes: int = 0

    def save(self) -> None:
        """Write the record."""
        write_source(self.folder, self.source)

    def fetch_files(
        self, files: Sequence[RemoteFile], target: Path, packed: Sequence[RemoteFile] = ()
    ) -> None:
        """Fetch files over HTTP into `target`.

        Args:
            files: what to fetch; complete files are skipped, partial ones resume.
            target: their folder.
            packed: files whose content will be written again, into shards.

        Raises:
            FsckitError: a file cannot be fetched, or the disk is too small.
        """
        if not files:
            return
        # The HTTP library takes a while to import and is optional; listings do not need it.
        from fscdata.download.fetch import fetch_file, partial_size  # noqa: PLC0415
        from fscdata.download.http import RetryPolicy, ask_sizes  # noqa: PLC0415

        known: dict[str, int | None] = {}
        for file in files:
            path = target / file.name
            here = path.stat().st_size if path.is_file() else partial_size(path)
            known[file.name] = here if file.size is None else file.size
        unknown = [file for file in files if known[file.name] is None]
        if unknown:
            self.reporter.progress(Progress("getting sizes", 0, len(unknown), "files"))
        asked = ask_sizes(unknown)
        self._check_space_for(files, target, packed, known, asked)

        sizes = [known[file.name] or asked.get(file.name) or file.about for file in files]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        progress = self.file_progress(total, len(files))
        recorded = {file.name: file.sha256 for file in self.source.files}
        for file in files:
            path = target / file.name
            fetched = fetch_file(
                file.addresses,
                path,
                size=file.size,
                sha256=file.sha256,
                recorded=recorded.get(file.name),
                expected=content_of(path),
                progress=progress.add,
                policy=RetryPolicy(say=self.reporter.say),
            )
            progress.finish_file()
            self.record(
                SourceFile(
                    name=file.name,
                    address=fetched.address,
                    size=fetched.size,
                    sha256=fetched.sha256,
                    etag=fetched.etag,
                )
            )

    def _check_space_for(
        self,
        files: Sequence[RemoteFile],
        target: Path,
        packed: Sequence[RemoteFile],
        known: dict[str, int | None],
        asked: dict[str, int],
    ) -> None:
        def size(file: RemoteFile) -> int:
            # A wrong Content-Length must not block a download, so `about` takes precedence.
            return known[file.name] or file.about or asked.get(file.name) or 0

        hint = ""
        if any(file.name in asked and not file.about for file in files):
            hint = "; the server reported this size; the manifest's 'about' overrides it"
        paths = [target / file.name for file in files]
        self.check_space(sum(map(size, [*files, *packed])), paths, hint)

    def check_space(self, size: int, existing: Sequence[Path] = (), hint: str = "") -> None:
        """Raises FsckitError if the disk is too small for `size` bytes, less those in `existing`.

        `existing` are files to fetch, which may already be partly on the disk.
        """
        here = sum(bytes_on_disk(path) for path in existing)
        needed = round(max(size - here, 0) * (1 + _OVERHEAD)) + MARGIN
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise FsckitError(
                f"{self.folder}: needs about {decimal(needed)}, but only {decimal(free)} is free; "
                f"free some space or choose a folder on another disk{hint}"
            )

    def file_progress(self, total: int | None, files: int) -> FileProgress:
        """A counter of fetched bytes (out of `total`) and files."""
        return FileProgress(self, total, files)

    def record(self, file: SourceFile) -> None:
        """Record a fetched file."""
        self.source.add_file(file)
        self.save()

    def require(self, *names: str) -> None:
        """Record that these files must stay in the folder."""
        for name in names:
            self.source.present[name] = (self.folder / name).stat().st_size

    def forget_shards(self, dest: Path) -> None:
        """Remove the shards of `dest` from the record."""
        prefix = f"{(dest / SHARDS).relative_to(self.folder).as_posix()}/"
        present = self.source.present
        self.source.present = {n: size for n, size in present.items() if not n.startswith(prefix)}

    def require_shards(self, dest: Path) -> None:
        """Record that only the shards now in `dest` must stay."""
        self.forget_shards(dest)
        for path in sorted((dest / SHARDS).iterdir()):
            if path.is_file() and not path.name.startswith("."):
                self.require(path.relative_to(self.folder).as_posix())

    def count_samples(self, captions: Path | None = None) -> None:
        """Record what the shards contain; this also checks that every tar is complete.

        `captions` is the folder of the captions; None if they are in the tars.
        """
        source = CaptionSource(folder=captions)
        left_out: Counter[str] = Counter()
        self.source.samples = self.source.captions = 0
        tars = sorted((self.folder / SHARDS).glob("*.tar"))
        for done, tar in enumerate(tars, 1):
            index = index_tar(tar, source)
            self.source.samples += len(index.samples)
            self.source.captions += sum(len(sample.captions) for sample in index.samples)
            left_out.update(index.without)
            self.reporter.progress(Progress("counting", done, len(tars), "shards"))
        self.source.left_out = dict(left_out)
        self.require_shards(self.folder)

    def clean_up(self) -> None:
        """Remove the staging folder and the lock files."""
        shutil.rmtree(self.folder / STAGING, ignore_errors=True)
        names = [*(file.name for file in self.source.files), *self.source.folders]
        for place in (self.folder, self.folder / SOURCES, self.folder / SHARDS):
            for path in (place / name for name in names):
                path.with_name(f".{path.name}.lock").unlink(missing_ok=True)


@dataclass
class FileProgress:
    """Counts fetched bytes and files, and reports each step."""

    session: Session
    total: int | None  # bytes
    files: int
    _bytes: int = 0
    _files: int = 0

    def add(self, size: int) -> None:
        """Count bytes; negative after a restart."""
        self._bytes += size
        self.session.bytes += size
        self._report()

    def finish_file(self) -> None:
        """Count a complete file."""
        self._files += 1
        self._report()

    def _report(self) -> None:
        detail = f"{self._files:,} of {self.files:,} files"
        progress = Progress("fetching", self._bytes, self.total, detail=detail)
        self.session.reporter.progress(progress)


def bytes_on_disk(path: Path) -> int:
    """Bytes of a file that are on the disk, under its name or a temporary one."""
    files = [path, *path.parent.glob(f".{escape(path.name)}.*")]
    return sum(file.stat().st_size for file in files if file.is_file())
