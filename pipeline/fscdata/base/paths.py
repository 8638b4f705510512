"""Paths of data sets: a local folder, or a prefix in an object store through fsspec.

A local folder is a `pathlib.Path`, a remote one a `upath.UPath` (universal_pathlib); our code uses
only what both support. S3 takes its endpoint and credentials from the usual environment variables
(AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_PROFILE, …), as does Google Cloud Storage
(GOOGLE_APPLICATION_CREDENTIALS, …).
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
# A function that takes a Path returns a Path.
PathT = TypeVar("PathT", Path, "UPath", "Path | UPath")

SCHEMES = ("s3", "gs", "memory")  # fsckit's extra of the same name installs the library

# Bytes per request. We need a tar's headers and captions, which have images of about 100 kB between
# them. Seeking past an image costs a round trip of about 30 ms, longer than reading it, so we read
# whole blocks. A block of 16 MiB takes about 200 ms, which makes the latency negligible and still
# needs little memory.
BLOCK = 16 * 2**20

_FULL = "; free some space and rerun the command"
_FORBIDDEN = "; change its permissions, or choose another folder"
_FIXES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: _FORBIDDEN,
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
}

# Packages whose errors are not OSErrors. Naming the classes would import the packages.
_LIBRARIES = {"aiobotocore", "aiohttp", "botocore", "gcsfs", "google", "requests"}


def data_path(text: str) -> DataPath:
    """Parse a path: a local folder, `s3://`, `gs://`, or `memory://` (this process only).

    Raises:
        FsckitError: the scheme is unknown, its library is not installed, or the bucket is missing.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Path(text)
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise FsckitError(f"{text}: unknown scheme {scheme}://; use a local folder, {known}")
    if not rest.strip("/"):
        raise FsckitError(f"{text}: the bucket is missing; write {scheme}://BUCKET/FOLDER")

    # Imported here: local folders need neither, and the import takes a tenth of a second.
    from fsspec import get_filesystem_class  # noqa: PLC0415
    from upath import UPath  # noqa: PLC0415

    with requires(scheme, f"{text}: {scheme}://"):
        get_filesystem_class(scheme)
    # Listings are not cached: this process must see files that workers and other runs write.
    return UPath(text.rstrip("/"), use_listings_cache=False)


def open_binary(path: DataPath) -> IO[bytes]:
    """Open a file for sequential reading; objects are read in blocks of `BLOCK` bytes."""
    if isinstance(path, Path):
        return path.open("rb")
    return path.open("rb", block_size=BLOCK, cache_type="readahead")


def entries(folder: PathT, ending: str) -> list[PathT]:
    """Paths in a folder whose names end with `ending`, sorted; empty if the folder is missing.

    Raises:
        FsckitError: the folder cannot be read.
    """
    with access(folder, "read"):
        try:
            return sorted(path for path in folder.iterdir() if path.name.endswith(ending))
        except (FileNotFoundError, NotADirectoryError):
            return []


def size_of(path: DataPath) -> int:
    """Size of a file [bytes].

    Raises:
        FsckitError: the file cannot be read.
    """
    with access(path, "read"):
        size: int = path.stat().st_size
        return size


@contextmanager
def access(path: DataPath, verb: Verb) -> Iterator[None]:
    """Turn file system and network errors in the block into one sentence about `path`.

    Other errors pass through, including Arrow's errors about a file's content.
    """
    try:
        yield
    except Exception as error:
        # Object store libraries raise ValueError for a malformed address.
        if not (_is_file_system_error(error) or (type(error) is ValueError and _is_remote(path))):
            raise
        raise cannot_be(verb, path, error) from None


def cannot_be(verb: Verb, path: DataPath, error: Exception) -> FsckitError:
    """An error that says what failed in the file system or network, and what to do about it."""
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


def _is_file_system_error(error: Exception) -> bool:
    """Whether an error is about reaching a file, rather than about its content."""
    if isinstance(error, OSError):
        # Arrow raises a bare OSError for bytes it cannot decode.
        return type(error) is not OSError or error.errno is not None
    return type(error).__module__.partition(".")[0] in _LIBRARIES
