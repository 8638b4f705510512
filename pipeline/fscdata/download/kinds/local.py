"""Images that the user has to request or copy by hand, packed into shards."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationInfo, field_validator

from fscdata.base.errors import FsckitError
from fscdata.download.fields import SHARDS, SOURCES, Files, Prose, RelativePath, RemoteFile
from fscdata.download.kind import Manifest
from fscdata.download.packs import (
    Packs,
    caption_paths,
    fetch_missing,
    in_shards,
    needs_packing,
    pack_all,
    require_sources,
    shard_folders,
)
from fscdata.download.session import Session
from fscdata.steps.images import ImageFolder


class Kind(Manifest):
    """Images that the user puts into the folder `images` of the data set.

    `instructions` say in a sentence how to get them.
    """

    kind: Literal["local"]
    packs: Packs
    images: RelativePath
    instructions: Prose
    caption_files: Files = []

    @field_validator("images")
    @classmethod
    def _outside_the_shards(cls, folder: str, info: ValidationInfo) -> str:
        if in_shards(folder, info.data.get("packs", [])):
            raise ValueError(f"'{folder}' is where shards are written; choose another folder")
        return folder

    def remote_files(self) -> list[RemoteFile]:
        return self.caption_files

    @property
    def shard_folders(self) -> list[str]:
        return [SHARDS, *shard_folders(self.packs)]

    def fetch(self, session: Session) -> None:
        images = session.folder / self.images
        if not images.is_dir():
            raise FsckitError(f"{images}: folder not found; {self.instructions}")
        if needs_packing(session, self.packs):
            captions = caption_paths(session, self.packs, self.caption_files)
            session.fetch_files(self.caption_files, session.folder / SOURCES)
            pack_all(session, self.packs, captions, ImageFolder(images))
        else:
            fetch_missing(session, self.caption_files)
        require_sources(session, self.caption_files)

    def planning_notes(self, folder: Path) -> list[str]:
        images = folder / self.images
        return [] if images.is_dir() else [f"{images}: {self.instructions}"]
