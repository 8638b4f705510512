"""`SOURCE.json`: where a data set comes from, its terms, and the files that it must have."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from fscdata import __version__
from fscdata.base.errors import FsckitError
from fscdata.base.files import atomic_file
from fscdata.base.paths import access
from fscdata.download.fields import SOURCE_FILE, Licence
from fscdata.download.kind import Manifest


class SourceFile(BaseModel):
    """A fetched file; `name` is its path in the data set's folder or in its source."""

    name: str
    address: str | None
    size: int
    sha256: str
    etag: str | None = None


class Source(BaseModel):
    """A download, finished or in progress.

    Attributes:
        complete: whether it is finished.
        manifest: the manifest's identity.
        commit: of a hub repository.
        files: the fetched files; some may have been removed since.
        present: files that the folder must have, with their sizes [bytes].
        folders: folders that it must have.
        packed: folders whose shards are written.
        samples, captions: their number in all shards.
        left_out: what is missing from the shards, counted by reason.
    """

    model_config = ConfigDict(extra="forbid")

    title: str
    licence: Licence
    citation: str
    fsckit: str
    date: str
    complete: bool = False
    manifest: dict[str, object]
    commit: str | None = None
    files: list[SourceFile] = []
    present: dict[str, int] = {}
    folders: list[str] = []
    packed: list[str] = []
    samples: int = 0
    captions: int = 0
    left_out: dict[str, int] = {}

    @classmethod
    def start(cls, manifest: Manifest) -> Source:
        """The record of a new download."""
        return cls(
            title=manifest.title,
            licence=manifest.licence,
            citation=manifest.citation,
            fsckit=__version__,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            manifest=manifest.identity(),
        )

    def is_of(self, manifest: Manifest) -> bool:
        """Whether this is a download of the manifest."""
        return self.manifest == manifest.identity()

    def missing(self, folder: Path) -> list[str]:
        """Recorded files and folders that are missing or have another size."""
        with access(folder, "read"):
            files = [name for name, size in self.present.items() if _size(folder / name) != size]
            return files + [name for name in self.folders if not (folder / name).is_dir()]

    def add_file(self, file: SourceFile) -> None:
        """Record a file; an unchanged file that was not fetched again keeps its known origin."""
        known = next((old for old in self.files if old.name == file.name), None)
        if known is not None:
            self.files.remove(known)
            if known.sha256 == file.sha256 and file.address is None:
                file = known
        self.files.append(file)
        self.files.sort(key=lambda file: file.name)  # hub files arrive in any order


def read_source(folder: Path) -> Source | None:
    """The record in a data set's folder, or None if it has none.

    Raises:
        FsckitError: the record cannot be read.
    """
    path = folder / SOURCE_FILE
    with access(path, "read"):
        if not path.is_file():
            return None
        content = path.read_bytes()
    try:
        return Source.model_validate_json(content)
    except ValidationError:
        raise FsckitError(
            f"{path}: not a record that this version of fsckit can read; choose another folder"
        ) from None


def write_source(folder: Path, source: Source) -> None:
    """Write the record atomically."""
    with atomic_file(folder / SOURCE_FILE) as file:
        file.write(source.model_dump_json(indent=2).encode() + b"\n")


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
