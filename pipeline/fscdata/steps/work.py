"""A download at work in a folder: files fetched, space looked after, the record kept."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fscdata.base.errors import FsckitError
from fscdata.contract import CaptionSource, index_tar
from fscdata.download.record import Source, SourceFile, write_source
from fscdata.manifest import SOURCES, RemoteFile

if TYPE_CHECKING:
    from fscdata.download.content import Content

STAGING = ".downloading"  # folder of what is not whole yet
MARGIN = 2**28  # bytes that must stay free beside what is known to come
_KEEP_FREE = 0.05  # and this share of them
SERVERS_WORD = "; a size that the manifest lacks is its server's word, and 'about' goes before that"

_CONTENT: dict[str, Content] = {
    ".zip": "zip",
    ".tar": "tar",
    ".tgz": "tar",
    ".gz": "tar",
    ".bz2": "tar",
    ".xz": "tar",
    ".json": "json",
    ".jsonl": "json",
    ".parquet": "parquet",
    ".tsv": "text",
    ".csv": "text",
    ".txt": "text",
    ".html": "page",
    ".htm": "page",
    ".xml": "page",
    ".svg": "page",
}


@dataclass(frozen=True)
class Options:
    """How to download.

    `min_success` is the share of a URL table's rows, by a probe, below which nothing more is
    downloaded; `retries` are the rounds afterwards for rows whose error can pass; `img2dataset` are
    options of that tool's. `keep_archives` keeps them when their pictures are packed.
    """

    min_success: float = 0.5
    retries: int = 0
    keep_archives: bool = False
    img2dataset: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Progress:
    """How far a stage is: `done` of `total` (None: not known) in `unit`s, and how many files."""

    stage: str = "starting"
    unit: str = "bytes"
    done: int = 0
    total: int | None = None
    files: int = 0
    files_total: int = 0


@dataclass(frozen=True)
class Show:
    """Where a download tells how it fares: `progress` often, `say` a sentence now and then."""

    progress: Callable[[Progress], None] = lambda progress: None
    say: Callable[[str], None] = lambda sentence: None

    def counter(self, stage: str, unit: str) -> Callable[[int, int], None]:
        """For steps that tell how much of how much is done."""
        return lambda done, total: self.progress(Progress(stage, unit, done, total))


SILENT = Show()


@dataclass
class Work:
    """A download into `folder`, whose lock is held.

    `lost` is what the folder no longer has of what is recorded; `bytes` are those of the files that
    were brought, parts that an earlier run left included.
    """

    folder: Path
    options: Options
    show: Show
    source: Source
    lost: list[str] = field(default_factory=list)
    bytes: int = 0

    def save(self) -> None:
        write_source(self.folder, self.source)

    def fetch(
        self, files: Sequence[RemoteFile], target: Path, packed: Sequence[RemoteFile] = ()
    ) -> None:
        """Fetch files over HTTP; what is in those of `packed` will be written once more."""
        if not files:
            return
        from fscdata.download.fetch import fetch  # noqa: PLC0415
        from fscdata.download.patience import Patience  # noqa: PLC0415
        from fscdata.download.sizes import ask_sizes  # noqa: PLC0415

        there = self._there(files, target)
        unknown = [file for file in files if there[file.name] is None]
        if unknown:
            self.show.progress(Progress("asking for sizes", "files", 0, len(unknown)))
        asked = ask_sizes(unknown)

        def room(file: RemoteFile) -> int:
            """A server's word is for the bar, and for the disk where there is no other."""
            return there[file.name] or file.about or asked.get(file.name) or 0

        hint = SERVERS_WORD if any(file.name in asked and not file.about for file in files) else ""
        paths = [target / file.name for file in files]
        self.need_space(sum(map(room, [*files, *packed])), paths, hint)
        sizes = [there[f.name] or asked.get(f.name) or f.about for f in files]
        known = sum(size or 0 for size in sizes)
        progress = Progress("fetching", "bytes", 0, None if None in sizes else known)
        progress.files_total = len(files)
        for file in files:
            path = target / file.name
            fetched = fetch(
                file.addresses,
                path,
                size=file.size,
                sha256=file.sha256,
                before=self.source_digest(file.name),
                expected=_CONTENT.get(path.suffix.lower()),
                progress=self.counted(progress),
                patience=Patience(tell=self.show.say),
            )
            progress.files += 1
            self.show.progress(progress)
            self.add(file.name, fetched)

    def _there(self, files: Sequence[RemoteFile], target: Path) -> dict[str, int | None]:
        """Bytes of files by name: published, or those of what is there in whole or in part."""
        from fscdata.download.partial import Partial  # noqa: PLC0415

        sizes = {file.name: file.size for file in files}
        for file in files:
            path = target / file.name
            if file.size is None and path.is_file():
                sizes[file.name] = path.stat().st_size
            elif file.size is None and (origin := Partial(path).origin):
                sizes[file.name] = origin.total
        return sizes

    def source_digest(self, name: str) -> str | None:
        """The sha256 of a file when it came, None where none of that name has come."""
        return next((file.sha256 for file in self.source.files if file.name == name), None)

    def counted(self, progress: Progress) -> Callable[[int], None]:
        def count(size: int) -> None:
            progress.done += size
            self.bytes += size
            self.show.progress(progress)

        return count

    def add(self, name: str, file: Any) -> None:
        """Record a file that one of the fetching modules describes."""
        etag = getattr(file, "etag", None)
        address, size, sha256 = file.address, file.size, file.sha256
        self.source.add_file(
            SourceFile(name=name, address=address, size=size, sha256=sha256, etag=etag)
        )
        self.save()

    def need_space(self, size: int, there: Sequence[Path], hint: str = "") -> None:
        """Raises FsckitError where the disk is too small for `size` bytes, `there` counted off."""
        here = sum(used(path) for path in there)
        needed = round(max(size - here, 0) * (1 + _KEEP_FREE)) + MARGIN
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            from rich.filesize import decimal  # noqa: PLC0415

            raise FsckitError(
                f"{self.folder}: about {decimal(needed)} are needed and {decimal(free)} are free; "
                f"free some space or take a folder on another disk{hint}"
            )

    def keep(self, *names: str) -> None:
        """Record that these files must be there."""
        for name in names:
            self.source.present[name] = (self.folder / name).stat().st_size

    def forget_shards(self, dest: Path) -> None:
        prefix = f"{(dest / 'shards').relative_to(self.folder).as_posix()}/"
        present = self.source.present
        self.source.present = {n: size for n, size in present.items() if not n.startswith(prefix)}

    def keep_shards(self, dest: Path) -> None:
        """Record that the shards of a folder must be there, these and no others."""
        self.forget_shards(dest)
        for path in sorted((dest / "shards").iterdir()):
            if path.is_file() and not path.name.startswith("."):
                self.keep(path.relative_to(self.folder).as_posix())

    def count_samples(self, captions: Path | None) -> None:
        """Count what the shards hold, which every tar has to be whole for."""
        source = CaptionSource(folder=captions)
        left_out: Counter[str] = Counter()
        self.source.samples = self.source.captions = 0
        tars = sorted((self.folder / "shards").glob("*.tar"))
        for done, tar in enumerate(tars, 1):
            index = index_tar(tar, source)
            self.source.samples += len(index.samples)
            self.source.captions += sum(len(sample.captions) for sample in index.samples)
            left_out.update(index.without)
            self.show.progress(Progress("counting", "shards", done, len(tars)))
        self.source.left_out = dict(left_out)
        self.keep_shards(self.folder)

    def tidy(self) -> None:
        """Remove what only the way there needed, the locks of files included."""
        shutil.rmtree(self.folder / STAGING, ignore_errors=True)
        names = [*(file.name for file in self.source.files), *self.source.folders]
        for place in (self.folder, self.folder / SOURCES, self.folder / "shards"):
            for path in (place / name for name in names):
                path.with_name(f".{path.name}.lock").unlink(missing_ok=True)


def used(path: Path) -> int:
    """Bytes that are there of a file, its parts under temporary names included."""
    files = [path, *path.parent.glob(f".{escape(path.name)}.*")]
    return sum(file.stat().st_size for file in files if file.is_file())
