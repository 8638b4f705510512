"""A manifest → a data set's folder: fetched, checked, packed, recorded in `SOURCE.json`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fscdata.base.errors import FsckitError
from fscdata.base.locks import folder_lock
from fscdata.base.paths import access
from fscdata.download.record import Source, read_source
from fscdata.manifest import (
    SOURCES,
    ArchiveManifest,
    FilesManifest,
    HuggingfaceManifest,
    LocalManifest,
    Manifest,
    UrlsManifest,
)
from fscdata.steps.bring import bring
from fscdata.steps.bring_urls import (
    count_rows,
    refuse_lost_shards,
    refuse_other_options,
)
from fscdata.steps.work import SILENT, Options, Show, Work

__all__ = ["DownloadReport", "Options", "Show", "download", "is_there", "retry"]

DEFAULTS = Options()


@dataclass(frozen=True)
class DownloadReport:
    """What there is now.

    `already`: all of it was there before. `bytes` are those of the files that were brought, parts
    that an earlier run left included, and of the shards that img2dataset made.
    """

    folder: Path
    source: Source
    already: bool
    bytes: int
    seconds: float

    @property
    def shards(self) -> int:
        return sum(name.endswith(".tar") for name in self.source.present)

    def record(self) -> dict[str, Any]:
        """As JSON."""
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
    manifest: Manifest, folder: Path, options: Options = DEFAULTS, show: Show = SILENT
) -> DownloadReport:
    """Bring a data set into a folder; one that is there is left alone, one begun is gone on with.

    Raises:
        FsckitError: the folder holds something else, the disk is too small, a source cannot be
            reached or gives other bytes than it should, too few rows of a URL table come, shards of
            one are lost, or there is no sample.
    """
    start = time.monotonic()
    source, lost = _look(folder, manifest)
    if source is not None and source.complete and not lost:
        _refuse_too_late(folder, manifest, options)
        return DownloadReport(folder, source, True, 0, time.monotonic() - start)
    with access(folder, "written"):
        folder.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder):
        source, lost = _look(folder, manifest)  # again: another run may have ended just now
        work = Work(folder, options, show, source or Source.start(manifest), lost)
        if isinstance(manifest, UrlsManifest):
            refuse_lost_shards(folder, lost)
        work.source.complete = False
        work.save()
        bring(work, manifest)
        _refuse_no_sample(work, manifest)
        work.tidy()
        work.source.complete = True
        work.save()
    return DownloadReport(folder, work.source, False, work.bytes, time.monotonic() - start)


def _look(folder: Path, manifest: Manifest) -> tuple[Source | None, list[str]]:
    """The record in the folder, and what is lost of what it says must be there.

    Raises FsckitError where the folder is not that of this data set.
    """
    source = read_source(folder)
    _refuse_other(folder, source, manifest)
    return source, [] if source is None else source.missing(folder)


def _refuse_too_late(folder: Path, manifest: Manifest, options: Options) -> None:
    """Raises FsckitError where options ask for what a finished data set does not have."""
    if isinstance(manifest, UrlsManifest):
        if options.img2dataset:
            refuse_other_options(folder, manifest, options.img2dataset)
    elif isinstance(manifest, ArchiveManifest) and options.keep_archives:
        for file in manifest.archives:
            if not (folder / SOURCES / file.name).is_file():
                raise FsckitError(
                    f"{folder / SOURCES / file.name}: was removed when it was packed; leave "
                    f"--keep-archives out, or take another folder"
                )


def _refuse_no_sample(work: Work, manifest: Manifest) -> None:
    """Raises FsckitError where a data set of shards has come to nothing."""
    plain = isinstance(manifest, FilesManifest) or (
        isinstance(manifest, HuggingfaceManifest) and not manifest.shards
    )
    if not plain and not work.source.samples:
        reasons = ", ".join(f"{why}: {n:,}" for why, n in work.source.left_out.items())
        raise FsckitError(
            f"{work.folder / 'shards'}: there is not one sample with a caption in it "
            f"({reasons or 'nothing was left out'}); correct the manifest, or run 'fscdata retry' "
            f"where rows of a URL table failed"
        )


def retry(folder: Path, times: int = 1, show: Show = SILENT) -> tuple[int, dict[str, int]]:
    """Download again the rows of a URL table whose error can pass.

    Returns:
        The samples that came, and by reason what the data set is still without.

    Raises:
        FsckitError: as `fscdata.download.urls.retry.retry`; the folder was made by another command,
            or shards of it are lost.
    """
    from fscdata.download.urls import retry as rows  # noqa: PLC0415

    _made_here(folder)  # first, so that no lock is left in another folder
    with folder_lock(folder):
        source = _made_here(folder)
        refuse_lost_shards(folder, source.missing(folder))
        work, before = Work(folder, DEFAULTS, show, source), source.samples
        try:
            rows.retry(folder, times, show.counter("downloading again", "rows"))
        finally:  # a round that was stopped, or failed, leaves those before it
            count_rows(work)
            work.save()
    return source.samples - before, source.left_out


def _made_here(folder: Path) -> Source:
    source = read_source(folder)
    if source is None:
        raise FsckitError(f"{folder}: was not made by 'fscdata download'; name a folder that was")
    return source


def is_there(manifest: Manifest, folder: Path) -> bool:
    """Whether a folder holds a finished download of the manifest."""
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


def _refuse_other(folder: Path, source: Source | None, manifest: Manifest) -> None:
    """Raises FsckitError where the folder is not that of this data set."""
    if source is None:
        packs = manifest.packs if isinstance(manifest, ArchiveManifest | LocalManifest) else []
        shards = [folder / name / "shards" for name in (".", *(pack.folder for pack in packs))]
        with access(folder, "read"):
            if any(folder.glob("*.tar")) or any(
                path.is_file() or any(path.glob("*")) for path in shards
            ):
                raise FsckitError(
                    f"{folder}: there are shards in it, or files where shards are to be, that "
                    f"'fscdata download' did not make; take another folder"
                )
    elif not source.is_of(manifest):
        raise FsckitError(
            f"{folder}: holds '{source.title}' by another manifest; take another folder"
        )
