"""Where the pictures to pack lie: a folder, or archives that are never unpacked."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Generic, Protocol, TypeVar

from fscdata.base.errors import FsckitError
from fscdata.contract import IMAGE_EXTENSIONS
from fscdata.steps.archive import members

Key = TypeVar("Key", Path, tuple[int, str])
ENDINGS = tuple(f".{extension}" for extension in IMAGE_EXTENSIONS)
InArchive = tuple[int, str]  # which archive, and the member's name


class Pictures(Protocol, Generic[Key]):
    """Pictures by a key; `pictures` are the files with a picture's ending."""

    place: str  # of messages
    pictures: set[Key]

    def resolve(self, name: str) -> Key | str:
        """The picture that a name in a caption file means, or the reason why there is none.

        The exact relative path, else the only file of that base name.
        """

    def read(self, wanted: Sequence[Key]) -> Iterator[tuple[Key, IO[bytes]]]:
        """The bytes of each, in an order of its own that is always the same."""


def _plain(name: str) -> PurePosixPath | None:
    """A relative path that does not lead upwards."""
    path = PurePosixPath(name)
    return None if path.is_absolute() or ".." in path.parts else path


class PictureFolder:
    """The files of a folder and of those below it, read in the order asked for."""

    def __init__(self, folder: Path) -> None:
        """Raises FsckitError where there is no such folder, or no file in it."""
        if not folder.is_dir():
            raise FsckitError(f"{folder}: no such folder of images")
        self.place = str(folder)
        self._folder = folder
        self._root = folder.resolve()
        self._by_name: dict[str, list[Path]] = {}
        for where, _, names in os.walk(folder):
            for name in names:
                self._by_name.setdefault(name, []).append(Path(where, name))
        if not self._by_name:
            raise FsckitError(f"{folder}: there is no file in this folder of images")
        paths = (path for paths in self._by_name.values() for path in paths)
        self.pictures = {p for p in paths if p.suffix[1:].lower() in IMAGE_EXTENSIONS}

    def resolve(self, name: str) -> Path | str:
        relative = _plain(name)
        if relative is None:
            return "outside the image folder"
        path = self._folder / relative
        try:
            exact = path.is_file()
        except (OSError, ValueError):  # too long a name, or a NUL in it
            exact = False
        if not exact:
            candidates = self._by_name.get(relative.name, [])
            if len(candidates) > 1:
                return "ambiguous image name"
            if not candidates or not candidates[0].is_file():
                return "missing image"
            path = candidates[0]
        if not path.resolve().is_relative_to(self._root):  # through a link
            return "outside the image folder"
        return path

    def read(self, wanted: Sequence[Path]) -> Iterator[tuple[Path, IO[bytes]]]:
        for path in wanted:
            with path.open("rb") as file:
                yield path, file


class PictureArchives:
    """The members of zips and tars, each archive read from front to back."""

    def __init__(self, archives: Sequence[Path]) -> None:
        """Raises FsckitError where an archive cannot be read, or none has a picture."""

        self.place = ", ".join(str(path) for path in archives)
        self._archives = archives
        self.pictures = {
            (number, member.name)
            for number, path in enumerate(archives)
            for member in members(path, ENDINGS)
        }
        if not self.pictures:
            raise FsckitError(f"{self.place}: there is no picture in it; name another archive")
        self._by_name: dict[str, list[InArchive]] = {}
        for picture in sorted(self.pictures):
            path = PurePosixPath(picture[1])
            for name in dict.fromkeys((str(path), path.name)):
                self._by_name.setdefault(name, []).append(picture)

    def resolve(self, name: str) -> InArchive | str:
        relative = _plain(name)
        if relative is None:
            return "outside the image folder"
        candidates = self._by_name.get(str(relative)) or self._by_name.get(relative.name, [])
        if len(candidates) > 1:
            return "ambiguous image name"
        return candidates[0] if candidates else "missing image"

    def read(self, wanted: Sequence[InArchive]) -> Iterator[tuple[InArchive, IO[bytes]]]:

        keys = set(wanted)
        for number, path in enumerate(self._archives):
            for member in members(path, ENDINGS):
                if (number, member.name) in keys:
                    yield (number, member.name), io.BytesIO(member.read())
