"""What each kind of manifest asks to be brought into a data set's folder."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from fscdata.contract import FsckitError, access
from fscdata.manifest import (
    ArchiveManifest,
    FilesManifest,
    HuggingfaceManifest,
    LocalManifest,
    Manifest,
    Pack,
    UrlsManifest,
)
from fscdata.steps.bring_urls import bring_urls
from fscdata.steps.pack import pack_pictures
from fscdata.steps.pictures import Key, PictureArchives, PictureFolder, Pictures
from fscdata.steps.work import SOURCES, STAGING, Progress, Work

if TYPE_CHECKING:
    from fscdata.download.huggingface import Repository


def bring(work: Work, manifest: Manifest) -> None:
    """Bring what the manifest asks for; the record says `complete` when all of it is there."""
    match manifest:
        case HuggingfaceManifest():
            _bring_huggingface(work, manifest)
        case ArchiveManifest():
            _bring_archive(work, manifest)
        case UrlsManifest():
            bring_urls(work, manifest)
            _keep_sources(work, manifest)
        case LocalManifest():
            _bring_local(work, manifest)
        case FilesManifest():
            work.fetch(manifest.files, work.folder)
            work.keep(*(file.name for file in manifest.files))


def _bring_huggingface(work: Work, manifest: HuggingfaceManifest) -> None:
    from fscdata.download import huggingface  # noqa: PLC0415

    folder, staging, archive = work.folder, work.folder / STAGING, manifest.caption_archive
    # A download that is gone on with stays with the commit that it was begun with.
    repository = huggingface.list_files(
        manifest.repository, work.source.commit or manifest.revision
    )
    work.source.commit = repository.commit
    work.save()
    shards, files = (present(repository, p) for p in (manifest.shards, manifest.files))
    parts = [(shards, staging / "shards"), (files, folder)]
    if archive is not None and not (folder / archive.folder).is_dir():
        parts.append(([archive.file], staging))
    _stage_shards(folder)
    wanted = [file for names, _ in parts for file in huggingface.select(repository, names)]
    size = sum(file.size for file in wanted)
    work.need_space(size, [staging])
    progress = Progress("fetching", "bytes", 0, size, 0, len(wanted))
    for names, target in parts:
        for file in huggingface.download(repository, names, target, work.counted(progress)):
            work.add(file.path, file)
            progress.files += 1
    if archive is not None:
        _extract(work, staging / archive.file, archive.folder)
        work.source.folders = [archive.folder]
    if shards:
        (staging / "shards").rename(folder / "shards")
        work.count_samples(None if archive is None else folder / archive.folder)
    work.keep(*(file.path for file in huggingface.select(repository, files)))


def present(repository: Repository, patterns: Sequence[str]) -> list[str]:
    """The patterns but for those with a `*` that stand for no file of the repository."""
    paths = [file.path for file in repository.files]
    return [p for p in patterns if "*" not in p or any(fnmatchcase(path, p) for path in paths)]


def _stage_shards(folder: Path) -> None:
    """Put shards of which some are lost back to where they become whole."""
    with access(folder, "written"):
        (folder / STAGING).mkdir(exist_ok=True)
        if (folder / "shards").is_dir():
            (folder / "shards").rename(folder / STAGING / "shards")


def _extract(work: Work, archive: Path, folder: str) -> None:
    """Unpack a repository's captions, one file a key."""
    from fscdata.download.archive import extract  # noqa: PLC0415

    if not (work.folder / folder).is_dir():
        work.show.progress(Progress(f"unpacking {archive.name}", "files"))
        extract(archive, work.folder / folder, (".txt",))


def _bring_archive(work: Work, manifest: ArchiveManifest) -> None:
    sources = work.folder / SOURCES
    archives = [sources / file.name for file in manifest.archives]
    if _unpacked(work, manifest.packs):
        captions = _caption_files(work, manifest)
        shards = sum(file.expected_size or 0 for file in manifest.archives)
        work.fetch(manifest.plan(), sources, shards)
        _pack(work, captions, PictureArchives(archives))
    if not work.options.keep_archives:
        for path in archives:
            path.unlink(missing_ok=True)
    _keep_sources(work, manifest)


def _bring_local(work: Work, manifest: LocalManifest) -> None:
    pictures = work.folder / manifest.pictures
    if not pictures.is_dir():
        raise FsckitError(f"{pictures}: is not there; {manifest.instructions}")
    if _unpacked(work, manifest.packs):
        captions = _caption_files(work, manifest)
        work.fetch(manifest.caption_files, work.folder / SOURCES)
        _pack(work, captions, PictureFolder(pictures))
    _keep_sources(work, manifest)


def _caption_files(
    work: Work, manifest: ArchiveManifest | LocalManifest
) -> list[tuple[Pack, Path]]:
    """Where the captions of each pack lie: among what is fetched, else in the data set's folder.

    Raises FsckitError before the first byte where one will be in neither.
    """
    fetched = {file.name for file in manifest.caption_files}
    places = []
    for pack in manifest.packs:
        folder = work.folder / SOURCES if pack.captions in fetched else work.folder
        places.append((pack, folder / pack.captions))
        if pack.captions not in fetched and not (folder / pack.captions).is_file():
            raise FsckitError(
                f"{folder / pack.captions}: is not there; put it there, or give its address in the "
                f"manifest's caption_files"
            )
    return places


def _keep_sources(work: Work, manifest: Manifest) -> None:
    """Record the files that shards were made of, as far as they are still there."""
    names = [f"{SOURCES}/{file.name}" for file in manifest.plan()]
    work.keep(*(name for name in names if (work.folder / name).is_file()))


def _unpacked(work: Work, packs: Sequence[Pack]) -> bool:
    """Whether there is something to pack; where shards are lost, all are packed again."""
    folders = {f"{Path(pack.folder, 'shards')}/" for pack in packs}
    if any(name.startswith(tuple(folders)) for name in work.lost):
        work.source.packed, work.source.left_out = [], {}
        work.source.samples = work.source.captions = 0
    return any(pack.folder not in work.source.packed for pack in packs)


def _pack(work: Work, packs: Sequence[tuple[Pack, Path]], pictures: Pictures[Key]) -> None:
    for pack, captions in packs:
        if pack.folder in work.source.packed:
            continue
        dest = work.folder / pack.folder
        shutil.rmtree(dest / "shards", ignore_errors=True)  # of which the record knows nothing
        show = work.show.counter(f"packing {pack.captions}", "pictures")
        report = pack_pictures(dest, pictures, captions, show)
        work.source.packed.append(pack.folder)
        work.source.samples += report.samples
        work.source.captions += report.captions
        work.source.left_out = dict(Counter(work.source.left_out) + report.skipped)
        work.keep_shards(dest)
        work.save()
