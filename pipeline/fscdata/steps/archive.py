"""The members of an untrusted zip or tar, read one by one.

If a requested member looks like an attack (a path out of the folder, a link, a huge size), the
whole archive is refused; other members are never read. `tarfile.data_filter` is not enough: it
strips a leading slash and allows links inside the folder, and zips have no such filter.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, cast

from fscdata.base.errors import FsckitError, first_line
from fscdata.base.files import TEMPORARY
from fscdata.base.locks import file_lock
from fscdata.base.paths import access, cannot_be
from fscdata.base.text import is_unicode, printable
from fscdata.steps.content import FIRST, compression, is_zip

MAX_MEMBER = 2**30  # bytes; a member is read into memory
# An archive may unpack to MAX_UNPACKED + MAX_RATIO × its size. Tars of short, similar texts reach a
# ratio of 100, bombs 1,000 or more.
MAX_RATIO = 500
MAX_UNPACKED = 2**26  # bytes

_DRIVE = re.compile("[A-Za-z]:")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_DAMAGE = (
    EOFError, NotImplementedError, OverflowError, RecursionError, ValueError, lzma.LZMAError,
    struct.error, tarfile.TarError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class Member:
    """A file in an archive: its path, with `/`, its size in bytes, and a function that reads it.

    A zip's member can be read at any time, a tar's only before the next one is requested.
    """

    name: str
    size: int
    read: Callable[[], bytes]


def members(path: Path, suffixes: Sequence[str]) -> Iterator[Member]:
    """The files of a zip or tar (plain, gz, bz2 or xz) with one of these suffixes, in any case.

    Raises:
        FsckitError: the archive cannot be read, is damaged or truncated, or one of these members
            has an unsafe or repeated path, is a link or device, is encrypted, or is too large.
    """
    with _reading(path), path.open("rb") as file:
        first = file.read(FIRST)
    found = _of_zip(path) if is_zip(first) else _of_tar(path, compression(first))
    endings = tuple(suffix.lower() for suffix in suffixes)
    yield from _safe(path, found, endings)


def extract(path: Path, folder: Path, suffixes: Sequence[str]) -> None:
    """Unpack the members of a small archive into a folder, which appears only when complete.

    A top folder shared by all members is omitted. If `folder` is not empty, nothing is done.

    Raises:
        FsckitError: see `members`; no member has one of these suffixes; the folder cannot be
            written.
    """
    staging = folder.with_name(f".{folder.name}{TEMPORARY}")
    made: set[Path] = set()
    with file_lock(folder), access(folder, "written"):
        shutil.rmtree(staging, ignore_errors=True)  # left by a killed run
        if folder.is_dir() and any(folder.iterdir()):
            return
        try:
            for member in members(path, suffixes):
                file = staging / member.name
                if file.parent not in made:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    made.add(file.parent)
                with file.open("xb") as out:
                    out.write(member.read())
            if not staging.is_dir():
                raise FsckitError(f"{path}: contains no {' or '.join(suffixes)} file")
            top = list(staging.iterdir())
            os.sync()  # once: flushing each of 100,000 files would take minutes
            (top[0] if len(top) == 1 and top[0].is_dir() else staging).rename(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@dataclass(frozen=True)
class _Entry:
    """A member's header. `fault` says why it must not be read; None if it may be."""

    name: str
    size: int
    fault: str | None
    read: Callable[[], bytes]


def _safe(path: Path, found: Iterable[_Entry], endings: tuple[str, ...]) -> Iterator[Member]:
    """The requested members, each checked before it is yielded."""
    names: set[str] = set()
    total = 0
    most = _max_bytes(path)
    for entry in found:
        if not entry.name.lower().endswith(endings):
            continue
        name = "/".join(part for part in entry.name.split("/") if part not in ("", "."))
        total += entry.size
        fault = entry.fault or _unsafe(entry.name)
        if name in names:
            fault = fault or "occurs twice"
        if entry.size > MAX_MEMBER or total > most:
            fault = fault or f"is too large ({entry.size:,} bytes)"
        if fault is not None:
            raise FsckitError(
                f"{path}: refused because its member '{printable(entry.name[:200])}' {fault}; use "
                f"an archive from a trusted source"
            )
        names.add(name)
        yield Member(name, entry.size, entry.read)


def _max_bytes(path: Path) -> int:
    """The most bytes that an archive may unpack to."""
    return MAX_UNPACKED + MAX_RATIO * path.stat().st_size


def _unsafe(name: str) -> str | None:
    """Why a member's path is unsafe; None if it is safe."""
    if name.startswith("/") or _DRIVE.match(name):
        return "has an absolute path"
    if ".." in name.split("/"):
        return "has a path with '..'"
    return "has an invalid name" if "\0" in name else None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn the libraries' errors about a damaged archive into one sentence."""
    try:
        yield
    except FsckitError:
        raise
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise cannot_be("read", path, error) from None
        raise FsckitError(
            f"{path}: the archive is damaged or truncated ({first_line(error)}); delete it and "
            f"download it again"
        ) from None


def _of_zip(path: Path) -> Iterator[_Entry]:
    with _reading(path):
        archive = zipfile.ZipFile(path)  # stays open while a member is referenced
    for info in archive.infolist():
        if not info.is_dir():
            yield _Entry(
                _zip_name(info), info.file_size, _zip_fault(info), partial(_unzip, archive, info)
            )


def _zip_name(info: zipfile.ZipInfo) -> str:
    r"""A member's path. Without the UTF-8 flag, zipfile decodes a name as code page 437, although
    most programs write UTF-8. Some write `\` instead of `/`."""
    name = info.filename
    if not info.flag_bits & 0x800:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return name.replace("\\", "/")


def _zip_fault(info: zipfile.ZipInfo) -> str | None:
    if info.flag_bits & 0x1:
        return "is encrypted"
    if info.compress_type not in _METHODS:
        return "uses compression that Python does not support"
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 if not written on Unix
    return None if kind in (0, stat.S_IFREG) else "is a link or device"


def _unzip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A member's bytes; zipfile stops at the declared size and checks the CRC."""
    with _reading(Path(archive.filename or "")):
        return archive.read(info)


def _of_tar(path: Path, packed: str | None) -> Iterator[_Entry]:
    with _reading(path), _open(path, packed) as raw:
        file = _Bounded(raw, path)
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for info in tar:
                if not info.isdir():
                    yield _Entry(
                        _tar_name(info.name),
                        info.size,
                        None if info.isfile() else "is a link or device",
                        partial(_untar, path, tar, info),
                    )
        # tarfile accepts garbage, or nothing, as the end; a complete tar ends with zeros.
        if len(file.last) < tarfile.BLOCKSIZE or file.last.strip(b"\0"):
            raise tarfile.ReadError("no member or end marker")
        while file.read(2**20):  # to check the checksum at the end of a gz
            pass


def _open(path: Path, packed: str | None) -> IO[bytes]:
    """The bytes of a tar, unpacked while reading; tarfile itself ignores a wrong checksum."""
    if packed is None:
        return path.open("rb")
    libraries = {"gz": gzip.GzipFile, "bz2": bz2.BZ2File, "xz": lzma.LZMAFile}
    return cast(IO[bytes], libraries[packed](path))


def _tar_name(name: str) -> str:
    """A member's path; a name that is not UTF-8 is decoded as Latin-1, which accepts any byte."""
    return name if is_unicode(name) else name.encode("utf-8", "surrogateescape").decode("latin-1")


def _untar(path: Path, tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    with _reading(path):
        file = tar.extractfile(info)
        assert file is not None  # it is a regular file
        data = file.read()
        if len(data) < info.size:
            raise tarfile.ReadError("unexpected end of data")
        return data


class _Bounded(io.RawIOBase):
    """An archive's bytes, limited to a reasonable unpacked size; `last` is the last block read."""

    def __init__(self, raw: IO[bytes], path: Path) -> None:
        self._raw = raw
        self._path = path
        self._most = _max_bytes(path)
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        # A header may declare a terabyte-long name, which tarfile would read at once.
        self._check(self._raw.tell() + min(size, MAX_MEMBER))
        size = min(size, MAX_MEMBER)
        self.last = self._raw.read(size)
        return self.last

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._check(offset)
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def _check(self, offset: int) -> None:
        if offset > self._most:
            raise FsckitError(
                f"{self._path}: refused because it unpacks to more than {self._most:,} bytes; use "
                f"an archive from a trusted source"
            )
