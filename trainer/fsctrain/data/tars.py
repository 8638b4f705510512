"""Read members of tars by byte range."""

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
OPEN_FILES = 256  # a process may commonly have 1,024 open


class TarReader:
    """Reads members of a run's tars at known offsets.

    A local tar is opened once per process and stays open while it is among the last 256 used. From
    an object store, only the member's range is requested.
    """

    def __init__(self, tars: Sequence[DataPath]) -> None:
        self._tars = tars
        self._open = lru_cache(OPEN_FILES)(_open)

    def __reduce__(self) -> tuple[type[TarReader], tuple[Sequence[DataPath]]]:
        """A spawned worker gets the paths and opens its own files."""
        return TarReader, (self._tars,)

    def read(self, tar: int, key: str, offset: int, size: int) -> memoryview:
        """Read a member of tar number `tar`, and check its header.

        Without the check, a tar that changed during the run would pair captions with wrong images.

        Raises:
            UnreadableImageError: the tar cannot be read.
            FsckitError: another member lies at this offset, so the tar changed.
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
                f"{path}: sample '{printable(key)}' is no longer at the offset in its table, so "
                f"the tar changed during the run; restart the run to see which tables to "
                f"remake"
            )
        return memoryview(data)[HEADER:]


def _open(path: Path) -> IO[bytes]:
    return path.open("rb", buffering=0)


def _object_range(url: str, start: int, stop: int) -> bytes:
    # The file system is created here, in the worker: fsspec's event loop does not survive a fork.
    with access(data_path(url), "read"):
        files, path = url_to_fs(url)
        data: bytes = files.cat_file(path, start=start, end=stop)
        return data


def _is_header(block: bytearray, key: str, size: int) -> bool:
    """Whether this is the header of a member of the sample, with this size."""
    name, _, _ = block[:100].partition(b"\0")
    if name.startswith(b"%s." % key.encode()) and block[124:136] == b"%011o\0" % size:
        return True  # the usual header; parsing it with tarfile takes longer than reading the image
    try:
        header = tarfile.TarInfo.frombuf(bytes(block), "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    # A long or non-ASCII name is stored in an extended header before this one.
    extended = not key.isascii() or len(key) > 90
    return header.size == size and (extended or header.name.startswith(f"{key}."))
