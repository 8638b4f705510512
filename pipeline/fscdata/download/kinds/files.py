"""Plain files, kept as they are."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fscdata.download.fields import Files, RemoteFile
from fscdata.download.kind import Manifest
from fscdata.download.session import Session


class Kind(Manifest):
    """Plain files, in the data set's folder."""

    kind: Literal["files"]
    files: Annotated[Files, Field(min_length=1)]

    def remote_files(self) -> list[RemoteFile]:
        return self.files

    @property
    def has_samples(self) -> bool:
        return False

    def fetch(self, session: Session) -> None:
        session.fetch_files(self.files, session.folder)
        session.require(*(file.name for file in self.files))
