"""`SOURCE.json`: where a data set came from, under which terms, and what of it must be there."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from fscdata import __version__
from fscdata.base.errors import FsckitError
from fscdata.base.files import atomic_file
from fscdata.base.paths import access
from fscdata.manifest import SOURCE_FILE, Licence, Manifest

# What a manifest says to readers, and where its files are found; a change of the rest makes another
# download. Of each file the name, size and digest count.
_PROSE = ("title", "captions", "licence", "citation", "on_disk", "command", "note", "instructions")
_PLACE = {"addresses": True, "about": True}
_LEFT_OUT: dict[str, Any] = {
    **dict.fromkeys((*_PROSE, "about"), True),
    **{
        files: {"__all__": _PLACE}
        for files in ("archives", "caption_files", "files", "table_files")
    },
}


class SourceFile(BaseModel):
    """A file as it was found: `name` in the data set's folder, or in what it was fetched from."""

    name: str
    address: str | None
    size: int
    sha256: str
    etag: str | None = None


class Source(BaseModel):
    """A download, finished (`complete`) or under way.

    `present` are the files that must be in the folder, with their sizes [bytes], `folders` those
    that must be there; `packed` are the folders whose shards are made.
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
        """The record of a download that begins now."""
        return cls(
            title=manifest.title,
            licence=manifest.licence,
            citation=manifest.citation,
            fsckit=__version__,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            manifest=_identity(manifest),
        )

    def is_of(self, manifest: Manifest) -> bool:
        """Whether the manifest says to fetch just what this was."""
        return self.manifest == _identity(manifest)

    def missing(self, folder: Path) -> list[str]:
        """What of the folder is not there, or not with its size."""
        with access(folder, "read"):
            files = [name for name, size in self.present.items() if _size(folder / name) != size]
            return files + [name for name in self.folders if not (folder / name).is_dir()]

    def add_file(self, file: SourceFile) -> None:
        """Take a file; one that was there already keeps what is known of its origin."""
        known = next((old for old in self.files if old.name == file.name), None)
        if known is not None:
            self.files.remove(known)
            if known.sha256 == file.sha256 and file.address is None:
                file = known
        self.files.append(file)
        self.files.sort(key=lambda file: file.name)  # of a hub they come as they are done


def read_source(folder: Path) -> Source | None:
    """The record in a data set's folder, or None where there is none.

    Raises:
        FsckitError: it cannot be read.
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
            f"{path}: not a record that this version of fsckit reads; download into another folder"
        ) from None


def write_source(folder: Path, source: Source) -> None:
    """Write the record, whole or not at all."""
    with atomic_file(folder / SOURCE_FILE) as file:
        file.write(source.model_dump_json(indent=2).encode() + b"\n")


def _identity(manifest: Manifest) -> dict[str, object]:
    return manifest.model_dump(mode="json", exclude=_LEFT_OUT, exclude_defaults=True)


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
