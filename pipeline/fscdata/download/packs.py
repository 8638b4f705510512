"""Packs caption files and images into shards, for the kinds `archive` and `local`."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field

from fscdata.base.errors import FsckitError
from fscdata.base.paths import access
from fscdata.download.fields import (
    SHARDS,
    SOURCES,
    FileName,
    Model,
    RelativePath,
    RemoteFile,
    check_unique,
)
from fscdata.download.session import Session
from fscdata.steps.images import Images, Key
from fscdata.steps.pack import pack_images


class Pack(Model):
    """A caption file whose images become shards in `folder`, one sample per image.

    `captions` names one of the manifest's `caption_files`, or a file that the user puts into the
    data set's folder.
    """

    captions: FileName
    folder: RelativePath = "."


def in_shards(folder: str, packs: Iterable[Pack]) -> bool:
    """Whether a folder would be replaced by the shards of a pack."""
    path = PurePosixPath(folder)
    return any(path.is_relative_to(PurePosixPath(pack.folder, SHARDS)) for pack in packs)


def _check_folders(packs: list[Pack]) -> list[Pack]:
    check_unique(pack.folder for pack in packs)
    for pack in packs:
        if in_shards(pack.folder, packs):
            raise ValueError(f"'{pack.folder}' is inside a pack's shards; choose another folder")
    return packs


Packs = Annotated[list[Pack], Field(min_length=1), AfterValidator(_check_folders)]


def shard_folders(packs: Sequence[Pack]) -> list[str]:
    """Where the packs' shards go, relative to the data set's folder."""
    return [f"{PurePosixPath(pack.folder, SHARDS)}" for pack in packs]


def needs_packing(session: Session, packs: Sequence[Pack]) -> bool:
    """Whether a pack is not packed yet; if a shard is missing, all packs are packed again."""
    prefixes = tuple(f"{folder}/" for folder in shard_folders(packs))
    if any(name.startswith(prefixes) for name in session.missing):
        session.source.packed, session.source.left_out = [], {}
        session.source.samples = session.source.captions = 0
        for pack in packs:
            session.forget_shards(session.folder / pack.folder)
        session.save()  # once, so that a kill cannot leave one pack recorded and the other not
    return any(pack.folder not in session.source.packed for pack in packs)


def caption_paths(
    session: Session, packs: Sequence[Pack], caption_files: Sequence[RemoteFile]
) -> list[Path]:
    """Each pack's caption file: a fetched one, or the user's own.

    Raises:
        FsckitError: a file is neither in `caption_files` nor in the data set's folder. Call this
            before the first byte is fetched.
    """
    fetched = {file.name for file in caption_files}
    paths = []
    for pack in packs:
        folder = session.folder / SOURCES if pack.captions in fetched else session.folder
        path = folder / pack.captions
        if pack.captions not in fetched and not path.is_file():
            raise FsckitError(
                f"{path}: file not found; put it there, or add its address to the manifest's "
                f"caption_files"
            )
        paths.append(path)
    return paths


def pack_all(
    session: Session,
    packs: Sequence[Pack],
    captions: Sequence[Path],
    images: Images[Key],
) -> None:
    """Write the shards of all packs that are not packed yet.

    Raises:
        FsckitError: the images or captions cannot be read, or foreign files are in the way.
    """
    for pack, caption_file in zip(packs, captions, strict=True):
        if pack.folder in session.source.packed:
            continue
        dest = session.folder / pack.folder
        _remove_shards(dest / SHARDS)
        report = pack_images(dest, images, caption_file, session.reporter)
        session.source.packed.append(pack.folder)
        session.source.samples += report.samples
        session.source.captions += report.captions
        session.source.left_out = dict(Counter(session.source.left_out) + report.skipped)
        session.require_shards(dest)
        session.save()


def fetch_missing(session: Session, files: Sequence[RemoteFile]) -> None:
    """Restore the recorded source files that are missing."""
    missing = [file for file in files if f"{SOURCES}/{file.name}" in session.missing]
    session.fetch_files(missing, session.folder / SOURCES)


def require_sources(session: Session, files: Sequence[RemoteFile]) -> None:
    """Record the source files that are still in the folder."""
    for name in (f"{SOURCES}/{file.name}" for file in files):
        session.source.present.pop(name, None)
        if (session.folder / name).is_file():
            session.require(name)


def _remove_shards(shards: Path) -> None:
    """Remove shards that will be rewritten, or that a killed run did not record.

    Raises FsckitError if there are other files among them.
    """
    if not shards.exists():
        return
    with access(shards, "written"):
        for path in shards.iterdir():
            if not (path.is_file() and re.fullmatch(r"\d{5,}\.tar", path.name)):
                raise FsckitError(
                    f"{path}: in a shards folder, but not made by 'fscdata download'; "
                    f"move it elsewhere"
                )
        shutil.rmtree(shards)
