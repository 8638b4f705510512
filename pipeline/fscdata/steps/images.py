"""The images to pack: in a folder, or in archives that are read without unpacking them."""

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
InArchive = tuple[int, str]  # the archive's number and the member's name


class Images(Protocol, Generic[Key]):
    """Images by key.

    Attributes:
        place: where they are, for messages.
        files: the keys of all files with an image extension.
    """

    place: str
    files: set[Key]

    def resolve(self, name: str) -> Key | str:
        """The image that a caption file's name refers to, or the reason it cannot be used.

        The name is a relative path. If it does not exist, the only file with that base name is
        used.
        """

    def read(self, keys: Sequence[Key]) -> Iterator[tuple[Key, IO[bytes]]]:
        """The images' bytes, in a reproducible order that may differ from that of `keys`."""


def _relative(name: str) -> PurePosixPath | None:
    """The name as a relative path; None if it leads outside."""
    path = PurePosixPath(name)
    return None if path.is_absolute() or ".." in path.parts else path


class ImageFolder:
    """The files of a folder and its subfolders, read in the requested order."""

    def __init__(self, folder: Path) -> None:
        """List the folder.

        Raises:
            FsckitError: the folder is missing or empty.
        """
        if not folder.is_dir():
            raise FsckitError(f"{folder}: image folder not found")
        self.place = str(folder)
        self._folder = folder
        self._root = folder.resolve()
        self._by_name: dict[str, list[Path]] = {}
        for parent, _, names in os.walk(folder):
            for name in names:
                self._by_name.setdefault(name, []).append(Path(parent, name))
        if not self._by_name:
            raise FsckitError(f"{folder}: this image folder is empty; choose another one")
        paths = (path for paths in self._by_name.values() for path in paths)
        self.files = {p for p in paths if p.suffix[1:].lower() in IMAGE_EXTENSIONS}

    def resolve(self, name: str) -> Path | str:
        # A name must stay inside the folder, but a link in it may lead anywhere: its owner made it,
        # and pack only reads, and only what decodes as an image.
        relative = self._inside(name)
        if relative is None:
            return "outside the image folder"
        path = self._folder / relative
        try:
            exact = path.is_file()
        except (OSError, ValueError):  # a name that is too long or contains NUL
            exact = False
        if not exact:
            candidates = self._by_name.get(relative.name, [])
            if len(candidates) > 1:
                return "ambiguous image name"
            if not candidates or not candidates[0].is_file():
                return "missing image"
            path = candidates[0]
        return path

    def _inside(self, name: str) -> PurePosixPath | None:
        """The name as a path relative to the folder; None if it leads outside."""
        path = PurePosixPath(name)
        for root in (self._folder.absolute(), self._root):
            if path.is_relative_to(root):
                return _relative(str(path.relative_to(root)))
        return _relative(name)

    def read(self, keys: Sequence[Path]) -> Iterator[tuple[Path, IO[bytes]]]:
        for path in keys:
            with path.open("rb") as file:
                yield path, file


class ImageArchives:
    """The members of zips and tars; each archive is read sequentially.

    Unpacking would store every image twice: for COCO, another 20 GB in 120,000 files.
    """

    def __init__(self, archives: Sequence[Path]) -> None:
        """List the archives.

        Raises:
            FsckitError: an archive cannot be read, or none contains an image.
        """
        self.place = ", ".join(str(path) for path in archives)
        self._archives = archives
        self.files = {
            (number, member.name)
            for number, path in enumerate(archives)
            for member in members(path, ENDINGS)
        }
        if not self.files:
            raise FsckitError(f"{self.place}: contains no images; use another archive")
        self._by_name: dict[str, list[InArchive]] = {}
        for image in sorted(self.files):
            path = PurePosixPath(image[1])
            for name in dict.fromkeys((str(path), path.name)):
                self._by_name.setdefault(name, []).append(image)

    def resolve(self, name: str) -> InArchive | str:
        relative = _relative(name)
        if relative is None:
            return "outside the image folder"
        candidates = self._by_name.get(str(relative)) or self._by_name.get(relative.name, [])
        if len(candidates) > 1:
            return "ambiguous image name"
        return candidates[0] if candidates else "missing image"

    def read(self, keys: Sequence[InArchive]) -> Iterator[tuple[InArchive, IO[bytes]]]:
        wanted = set(keys)
        for number, path in enumerate(self._archives):
            for member in members(path, ENDINGS):
                if (number, member.name) in wanted:
                    yield (number, member.name), io.BytesIO(member.read())
