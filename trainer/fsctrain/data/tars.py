"""A tar's members by their byte ranges."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO

from fsspec.core import url_to_fs

from fscdata.base.errors import FsckitError
from fscdata.base.paths import DataPath, access, data_path
from fscdata.base.text import printable
from fsctrain.data.images import UnreadableImageError

HEADER = tarfile.BLOCKSIZE
OPEN_FILES = 256  # a process may commonly have 1,024


class Tars:
    """The tars of a run, from which members are read at their places.

    A local tar is opened once in a process, and stays open while it is among the 256 used last.
    An object is asked for the range alone.
    """

    def __init__(self, tars: Sequence[DataPath]) -> None:
        self._tars = tars
        self._open = lru_cache(OPEN_FILES)(_open)

    def __reduce__(self) -> tuple[type[Tars], tuple[Sequence[DataPath]]]:
        """A worker that was not forked opens its own files."""
        return Tars, (self._tars,)

    def read(self, tar: int, key: str, offset: int, size: int) -> memoryview:
        """The bytes of tar number `tar` at this place, the member's header checked.

        Raises:
            UnreadableImageError: the tar cannot be read.
            FsckitError: there is another member at this place: the tar changed.
        """
        path = self._tars[tar]
        start = offset - HEADER
        try:
            if isinstance(path, Path):
                data = bytearray(HEADER + size)
                read = os.preadv(self._open(path).fileno(), [data], start)
            else:
                data = bytearray(_object_range(str(path), start, offset + size))
                read = len(data)
        except (OSError, FsckitError):
            raise UnreadableImageError("its tar cannot be read") from None
        if read != HEADER + size or not _is_header(data[:HEADER], key, size):
            raise FsckitError(
                f"{path}: sample '{printable(key)}' is no longer where its table says: the tar "
                f"changed since the run began; start the run again to learn which tables to make "
                f"anew"
            )
        return memoryview(data)[HEADER:]


def _open(path: Path) -> IO[bytes]:
    return path.open("rb", buffering=0)


def _object_range(url: str, start: int, stop: int) -> bytes:
    # The file system is got here: one of fsspec's does not outlive a fork.
    with access(data_path(url), "read"):
        files, path = url_to_fs(url)
        data: bytes = files.cat_file(path, start=start, end=stop)
        return data


def _is_header(block: bytearray, key: str, size: int) -> bool:
    """Whether this is the header of a member of the sample, of this size."""
    name, _, _ = block[:100].partition(b"\0")
    if name.startswith(b"%s." % key.encode()) and block[124:136] == b"%011o\0" % size:
        return True  # as most tars are written; tarfile takes longer than reading the picture
    try:
        header = tarfile.TarInfo.frombuf(bytes(block), "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    # A long name, or one beyond ASCII, stands in a header of its own before this one.
    named = not key.isascii() or len(key) > 90
    return header.size == size and (named or header.name.startswith(f"{key}."))
