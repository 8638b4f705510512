"""Download a data set, plan a download, retry failed rows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fscdata.base.errors import FsckitError
from fscdata.base.locks import folder_lock
from fscdata.base.paths import access
from fscdata.base.progress import SILENT, Reporter
from fscdata.base.text import join_counts
from fscdata.download.kind import DEFAULTS, Manifest, Options, PlannedFile
from fscdata.download.manifest import find_kind
from fscdata.download.record import Source, read_source
from fscdata.download.session import Session


@dataclass(frozen=True)
class DownloadReport:
    """A finished download.

    Attributes:
        folder: the data set's folder.
        source: its record.
        already: whether it was already complete.
        bytes: fetched by this call, including partial files from an earlier run and the shards
            that img2dataset made.
        seconds: duration of the call.
    """

    folder: Path
    source: Source
    already: bool
    bytes: int
    seconds: float

    @property
    def shards(self) -> int:
        return sum(name.endswith(".tar") for name in self.source.present)

    def as_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "already": self.already,
            "files": len(self.source.files),
            "shards": self.shards,
            "samples": self.source.samples,
            "captions": self.source.captions,
            "left_out": self.source.left_out,
            "commit": self.source.commit,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
        }


def download(
    manifest: Manifest, folder: Path, options: Options = DEFAULTS, reporter: Reporter = SILENT
) -> DownloadReport:
    """Download a data set into a folder; an unfinished one resumes, a finished one is skipped.

    Raises:
        FsckitError: the manifest's kind does not use an option, the folder holds something else,
            the disk is too small, a source is unreachable or sends unexpected bytes, too few rows
            of a URL table succeed or its shards are missing, or the result has no samples.
    """
    start = time.monotonic()
    manifest.check_options(options)
    source, missing = _inspect(manifest, folder)
    if source is not None and source.complete and not missing:
        manifest.check_finished(folder, options)
        return DownloadReport(folder, source, True, 0, time.monotonic() - start)
    with access(folder, "written"):
        folder.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder):
        # Check again under the lock: another process may have finished in the meantime.
        source, missing = _inspect(manifest, folder)
        manifest.check_missing(folder, missing)
        source = source or Source.start(manifest)
        session = Session(folder, options, reporter, source, missing)
        source.complete = False
        session.save()
        manifest.fetch(session)
        _check_samples(manifest, session)
        session.clean_up()
        source.complete = True
        session.save()
    return DownloadReport(folder, source, False, session.bytes, time.monotonic() - start)


def plan(
    manifest: Manifest, options: Options = DEFAULTS, reporter: Reporter = SILENT
) -> list[PlannedFile]:
    """The files that a download would fetch; servers are asked for unpublished sizes.

    Raises:
        FsckitError: the manifest's kind does not use an option, or the hub or img2dataset refuses.
    """
    manifest.check_options(options)
    return manifest.planned_files(options, reporter)


def retry(folder: Path, times: int = 1, reporter: Reporter = SILENT) -> tuple[int, dict[str, int]]:
    """Retry the rows of a URL table that failed temporarily.

    Args:
        folder: a finished download.
        times: maximum number of rounds.
        reporter: receives the progress.

    Returns:
        The number of new samples, and the rows that are still left out, by reason.

    Raises:
        FsckitError: the folder is not a finished download of a URL table, or shards are missing.
    """
    _read_record(folder)  # before the lock, which leaves a file in the folder
    with folder_lock(folder):
        source = _read_record(folder)
        before = source.samples
        session = Session(folder, DEFAULTS, reporter, source, source.missing(folder))
        find_kind(source.manifest.get("kind")).retry_rows(session, times)
    return source.samples - before, source.left_out


def is_complete(manifest: Manifest, folder: Path) -> bool:
    """Whether a folder contains a finished download of the manifest."""
    try:
        source = read_source(folder)
        return (
            source is not None
            and source.complete
            and source.is_of(manifest)
            and not source.missing(folder)
        )
    except FsckitError:
        return False


def _inspect(manifest: Manifest, folder: Path) -> tuple[Source | None, list[str]]:
    """The folder's record, and the recorded files that are missing.

    Raises FsckitError if the folder holds anything other than this data set.
    """
    source = read_source(folder)
    if source is None:
        _check_no_shards(manifest, folder)
        return None, []
    if not source.is_of(manifest):
        raise FsckitError(
            f"{folder}: contains '{source.title}' from another manifest; choose another folder"
        )
    return source, source.missing(folder)


def _check_no_shards(manifest: Manifest, folder: Path) -> None:
    """Raises FsckitError if the folders for shards contain files we did not make."""
    with access(folder, "read"):
        if any(folder.glob("*.tar")) or any(
            path.is_file() or any(path.glob("*"))
            for path in (folder / name for name in manifest.shard_folders)
        ):
            raise FsckitError(
                f"{folder}: contains tars or a shards folder not made by 'fscdata download'; "
                f"choose another folder"
            )


def _check_samples(manifest: Manifest, session: Session) -> None:
    """Raises FsckitError if a data set of samples has none."""
    if manifest.has_samples and not session.source.samples:
        reasons = join_counts(session.source.left_out)
        raise FsckitError(
            f"{session.folder / 'shards'}: contains no sample with a caption (left out: "
            f"{reasons or 'nothing'}); correct the manifest, or run 'fscdata retry' if rows of a "
            f"URL table failed"
        )


def _read_record(folder: Path) -> Source:
    source = read_source(folder)
    if source is None:
        raise FsckitError(f"{folder}: not made by 'fscdata download'; use a folder that was")
    return source
