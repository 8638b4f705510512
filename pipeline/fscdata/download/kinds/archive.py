"""Zips or tars of images, and caption files, packed into shards.

The archives are not unpacked: COCO's 20 GB of images would be on the disk twice, in 120,000 files.
They are read sequentially, and removed once their shards are complete, unless the user keeps them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from fscdata.base.errors import FsckitError
from fscdata.download.fields import SHARDS, SOURCES, Files, RemoteFile, check_unique
from fscdata.download.kind import Manifest, Options
from fscdata.download.packs import (
    Packs,
    caption_paths,
    fetch_missing,
    needs_packing,
    pack_all,
    require_sources,
    shard_folders,
)
from fscdata.download.session import Session
from fscdata.steps.images import ImageArchives


class Kind(Manifest):
    """Archives of images, and caption files, packed while the archives are read."""

    uses: ClassVar = frozenset({"keep_archives"})

    kind: Literal["archive"]
    archives: Annotated[Files, Field(min_length=1)]
    caption_files: Files = []
    packs: Packs

    @field_validator("caption_files")
    @classmethod
    def _differ_from_archives(
        cls, files: list[RemoteFile], info: ValidationInfo
    ) -> list[RemoteFile]:
        # Both go into the folder `sources`.
        check_unique(file.name for file in (*info.data.get("archives", []), *files))
        return files

    def remote_files(self) -> list[RemoteFile]:
        return [*self.caption_files, *self.archives]  # small ones first: they may be refused

    @property
    def shard_folders(self) -> list[str]:
        return [SHARDS, *shard_folders(self.packs)]

    def fetch(self, session: Session) -> None:
        sources = session.folder / SOURCES
        archives = [sources / file.name for file in self.archives]
        keep = session.options.keep_archives
        if needs_packing(session, self.packs):
            captions = caption_paths(session, self.packs, self.caption_files)
            session.fetch_files(self.remote_files(), sources, packed=self.archives)
            pack_all(session, self.packs, captions, ImageArchives(archives))
        else:
            fetch_missing(session, self.remote_files() if keep else self.caption_files)
        if not keep:
            for path in archives:
                path.unlink(missing_ok=True)
        require_sources(session, self.remote_files())

    def check_finished(self, folder: Path, options: Options) -> None:
        if not options.keep_archives:
            return
        for file in self.archives:
            if not (folder / SOURCES / file.name).is_file():
                raise FsckitError(
                    f"{folder / SOURCES / file.name}: was removed after it was packed; omit "
                    f"`keep_archives`, or choose another folder"
                )
