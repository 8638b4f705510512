"""What each kind of manifest asks to be brought into a data set's folder."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from fscdata.base.errors import FsckitError
from fscdata.base.paths import access
from fscdata.manifest import (
    SOURCES,
    ArchiveManifest,
    FilesManifest,
    HuggingfaceManifest,
    LocalManifest,
    Manifest,
    Pack,
    RemoteFile,
    UrlsManifest,
)
from fscdata.steps.bring_urls import bring_urls
from fscdata.steps.pack import pack_pictures
from fscdata.steps.pictures import Key, PictureArchives, PictureFolder, Pictures
from fscdata.steps.work import STAGING, Progress, Work

if TYPE_CHECKING:
    from fscdata.download import huggingface as hub


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
    from fscdata.download.patience import Patience  # noqa: PLC0415

    folder, staging, archive = work.folder, work.folder / STAGING, manifest.caption_archive
    # A download that is gone on with stays with the commit that it was begun with.
    repository = huggingface.list_files(
        manifest.repository, work.source.commit or manifest.revision, work.show.say
    )
    work.source.commit = repository.commit
    work.save()
    shards, files = choose(repository, manifest)
    # Shards get their folder's name together; one that was lost of them comes back to its place.
    place = folder if any((folder / "shards").glob("*")) else staging
    parts = [(shards, place / "shards"), (files, folder)]
    if archive is not None and not (folder / archive.folder).is_dir():
        parts.append((huggingface.select(repository, [archive.file]), staging))
    wanted = [(target / file.path, file.size) for chosen, target in parts for file in chosen]
    size = sum(size for _, size in wanted)
    work.need_space(size, [path for path, _ in wanted])
    progress = Progress("fetching", "bytes", 0, size, 0, len(wanted))
    for chosen, target in parts:
        names = [file.path for file in chosen]
        count, patience = work.counted(progress), Patience(tell=work.show.say)
        with closing(huggingface.download(repository, names, target, count, patience)) as came:
            for file in came:
                work.add(file.path, file)
                progress.files += 1
                work.show.progress(progress)
    if archive is not None:
        _extract(work, staging / archive.file, archive.folder)
        work.source.folders = [archive.folder]
    if shards:
        if place == staging:
            (staging / "shards").rename(folder / "shards")
        work.count_samples(None if archive is None else folder / archive.folder)
    work.keep(*(file.path for file in files))


def choose(
    repository: hub.Repository, manifest: HuggingfaceManifest
) -> tuple[list[hub.RemoteFile], list[hub.RemoteFile]]:
    """The shards and the other files that a manifest asks for.

    Raises:
        FsckitError: the repository has no such shard, none of the files or not one that has to be
            there, or a shard lies in a folder of it.
    """
    shards, files = (_select(repository, p) for p in (manifest.shards, manifest.files))
    if not shards and (manifest.shards or not files):
        asked = ", ".join(manifest.shards or manifest.files)
        raise FsckitError(
            f"{repository.name}: has no file of '{asked}' at commit {repository.commit}; correct "
            f"the manifest's {'shards' if manifest.shards else 'files'}"
        )
    for file in shards:
        if "/" in file.path:
            raise FsckitError(
                f"{repository.name}: '{file.path}' lies in a folder, which shards must not; ask "
                f"for it under the manifest's files, and take that folder for the data set"
            )
    return shards, files


def _select(repository: hub.Repository, patterns: Sequence[str]) -> list[hub.RemoteFile]:
    """The files of the patterns, of which those with a `*` may stand for none."""
    from fscdata.download.huggingface import expand, select  # noqa: PLC0415

    paths = [file.path for file in repository.files]
    names = (name for pattern in patterns for name in expand(pattern))
    there = [n for n in names if "*" not in n or any(fnmatchcase(path, n) for path in paths)]
    return select(repository, there)


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
        work.fetch(manifest.plan(), sources, packed=manifest.archives)
        _pack(work, captions, PictureArchives(archives))
    else:
        _fetch_lost(work, manifest.plan() if work.options.keep_archives else manifest.caption_files)
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
    else:
        _fetch_lost(work, manifest.caption_files)
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


def _fetch_lost(work: Work, files: Sequence[RemoteFile]) -> None:
    """Bring back those files that were recorded and are lost."""
    lost = [file for file in files if f"{SOURCES}/{file.name}" in work.lost]
    work.fetch(lost, work.folder / SOURCES)


def _keep_sources(work: Work, manifest: Manifest) -> None:
    """Record the files that shards were made of, as far as they are still there."""
    for name in (f"{SOURCES}/{file.name}" for file in manifest.plan()):
        work.source.present.pop(name, None)
        if (work.folder / name).is_file():
            work.keep(name)


def _unpacked(work: Work, packs: Sequence[Pack]) -> bool:
    """Whether there is something to pack; where shards are lost, all are packed again."""
    folders = {f"{Path(pack.folder, 'shards')}/" for pack in packs}
    if any(name.startswith(tuple(folders)) for name in work.lost):
        work.source.packed, work.source.left_out = [], {}
        work.source.samples = work.source.captions = 0
        for pack in packs:
            work.forget_shards(work.folder / pack.folder)
        work.save()  # all together: a kill from here on must not leave a pack as made
    return any(pack.folder not in work.source.packed for pack in packs)


def _pack(work: Work, packs: Sequence[tuple[Pack, Path]], pictures: Pictures[Key]) -> None:
    for pack, captions in packs:
        if pack.folder in work.source.packed:
            continue
        dest = work.folder / pack.folder
        _remove_shards(dest / "shards")
        show = work.show.counter(f"packing {pack.captions}", "pictures")
        report = pack_pictures(dest, pictures, captions, show)
        work.source.packed.append(pack.folder)
        work.source.samples += report.samples
        work.source.captions += report.captions
        work.source.left_out = dict(Counter(work.source.left_out) + report.skipped)
        work.keep_shards(dest)
        work.save()


def _remove_shards(shards: Path) -> None:
    """Remove shards that are made again, or that a killed run made and did not record.

    Raises FsckitError where something else lies among them.
    """
    if not shards.exists():
        return
    with access(shards, "written"):
        for path in shards.iterdir():
            if not (path.is_file() and re.fullmatch(r"\d{5,}\.tar", path.name)):
                raise FsckitError(
                    f"{path}: was not made by 'fscdata download', and shards are to be made there; "
                    f"move it elsewhere"
                )
        shutil.rmtree(shards)
