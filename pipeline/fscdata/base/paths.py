"""A data set's place: a folder of this machine, or a prefix in an object store behind fsspec.

A local folder is a `pathlib.Path`, all else a `upath.UPath` (universal_pathlib); code uses what
both have. S3's endpoint and credentials come from the usual variables (AWS_ENDPOINT_URL,
AWS_ACCESS_KEY_ID, AWS_PROFILE, …), Google's from theirs (GOOGLE_APPLICATION_CREDENTIALS, …).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, TypeAlias, TypeVar

from fscdata.base.errors import FsckitError, first_line
from fscdata.base.extras import requires

if TYPE_CHECKING:
    from upath import UPath

DataPath: TypeAlias = "Path | UPath"
Verb: TypeAlias = Literal["read", "written"]
# What goes in as a Path comes out as one.
PathT = TypeVar("PathT", Path, "UPath", "Path | UPath")

SCHEMES = ("s3", "gs", "memory")  # fsckit's extra that brings the library has the same name

# Bytes a request. Of a tar the headers and captions are wanted, between which lie images of some
# 100 kB. To jump over each would be to wait for the store once a sample: some 30 ms, where the
# image would have come in one. So blocks are read through, and what is jumped over is the part of
# an image that lies beyond the block. At 16 MiB (some 200 ms) the waiting is a small part, and so
# is the memory.
BLOCK = 16 * 2**20

_FULL = "; free some space and run the command again"
_FORBIDDEN = "; give yourself the right to, or take another folder"
_FIXES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: _FORBIDDEN,
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
}

# Their errors are no OSErrors, and to name their classes would be to import them.
_LIBRARIES = {"aiobotocore", "aiohttp", "botocore", "gcsfs", "google", "requests"}


def data_path(text: str) -> DataPath:
    """The place that a user named: `s3://`, `gs://`, `memory://` (of this process alone), or a
    local folder.

    Raises:
        FsckitError: another scheme, one whose library is not installed, or no bucket.
    """
    scheme, there, rest = text.partition("://")
    if not there:
        return Path(text)
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise FsckitError(f"{text}: fsckit knows no {scheme}://; give a folder, or one of {known}")
    if not rest.strip("/"):
        raise FsckitError(f"{text}: names no folder; write {scheme}://BUCKET/FOLDER")

    from fsspec import get_filesystem_class  # noqa: PLC0415 (local folders need no fsspec)
    from upath import UPath  # noqa: PLC0415

    with requires(scheme, f"{text}: {scheme}://"):
        get_filesystem_class(scheme)
    # No cached listings: workers and other runs write what this process has to see.
    return UPath(text.rstrip("/"), use_listings_cache=False)


def open_binary(path: DataPath) -> IO[bytes]:
    """A file to read from front to back; of an object a block of `BLOCK` bytes at a time."""
    if isinstance(path, Path):
        return path.open("rb")
    return path.open("rb", block_size=BLOCK, cache_type="readahead")


def entries(folder: PathT, ending: str) -> list[PathT]:
    """What lies in a folder and has a name that ends so, by name; none if there is no such folder.

    Raises:
        FsckitError: it cannot be read.
    """
    with access(folder, "read"):
        try:
            return sorted(path for path in folder.iterdir() if path.name.endswith(ending))
        except (FileNotFoundError, NotADirectoryError):
            return []


def size_of(path: DataPath) -> int:
    """Bytes.

    Raises:
        FsckitError: it cannot be read.
    """
    with access(path, "read"):
        size: int = path.stat().st_size
        return size


@contextmanager
def access(path: DataPath, verb: Verb) -> Iterator[None]:
    """The errors of file systems and networks in the block, as one sentence about `path`.

    Arrow's errors about what a file holds pass through; so does all that is no such error.
    """
    try:
        yield
    except Exception as error:
        # A store's library says ValueError of an address that is none.
        if not (_of_file_system(error) or (type(error) is ValueError and _is_remote(path))):
            raise
        raise cannot_be(verb, path, error) from None


def cannot_be(verb: Verb, path: DataPath, error: Exception) -> FsckitError:
    """The sentence for an error of the file system or the network, and what to do about it."""
    if isinstance(error, FileNotFoundError):
        reason = os.strerror(errno.ENOENT)
    elif isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    else:
        reason = first_line(error)
    fix = _FIXES.get(error.errno or 0, "") if isinstance(error, OSError) else ""
    if not isinstance(path, Path):
        fix = "; check the address, the credentials and the network"
    return FsckitError(f"{path}: cannot be {verb} ({reason}){fix}")


def _is_remote(path: DataPath) -> bool:
    return not isinstance(path, Path)


def _of_file_system(error: Exception) -> bool:
    """Whether an error is about reaching a file, not about what it holds."""
    if isinstance(error, OSError):
        # Arrow raises a bare one for bytes that it cannot decode.
        return type(error) is not OSError or error.errno is not None
    return type(error).__module__.partition(".")[0] in _LIBRARIES
