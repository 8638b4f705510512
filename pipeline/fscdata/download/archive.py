"""The members of a zip or tar, read out of it one by one; nothing in it is trusted.

A member that is wanted and looks like an attack (a path that leads out, a link, a size without
measure) condemns the whole archive; members that are not wanted are never read.
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

from fscdata.base.errors import FsckitError
from fscdata.base.files import TEMPORARY
from fscdata.base.locks import file_lock
from fscdata.base.paths import access, cannot_be
from fscdata.base.text import is_unicode, printable
from fscdata.download.content import FIRST, compression, is_zip

MAX_MEMBER = 2**30  # bytes; a member is read into memory
# How many times its size an archive may unpack to, and what even a small one may. Tars of short
# texts that are much alike reach 100, bombs 1,000 and more.
MAX_RATIO = 500
MAX_UNPACKED = 2**26

_DRIVE = re.compile("[A-Za-z]:")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_DAMAGE = (
    EOFError, NotImplementedError, OverflowError, RecursionError, ValueError, lzma.LZMAError,
    struct.error, tarfile.TarError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class Member:
    """A file of an archive: its path there with `/`, its bytes, and how to read them.

    Of a zip a member may be read at any time; of a tar before the next one is asked for.
    """

    name: str
    size: int
    read: Callable[[], bytes]


def members(path: Path, suffixes: Sequence[str]) -> Iterator[Member]:
    """The files of a zip or tar (plain, gz, bz2 or xz) whose names end so, in any case of letters.

    Raises:
        FsckitError: the archive cannot be read, is damaged or cut short, or one of these members
            has an unsafe or repeated path, is a link or device, is encrypted, or is too large.
    """
    with _reading(path), path.open("rb") as file:
        first = file.read(FIRST)
    found = _of_zip(path) if is_zip(first) else _of_tar(path, compression(first))
    endings = tuple(suffix.lower() for suffix in suffixes)
    yield from _safe(path, found, endings)


def extract(path: Path, folder: Path, suffixes: Sequence[str]) -> None:
    """Write the members of a small archive as files of a folder that appears whole or not at all.

    A folder that all of them are in, and nothing else, is left out of their paths. A `folder` that
    has anything in it already stays as it is.

    Raises:
        FsckitError: as `members`; there are none; the folder cannot be written.
    """
    staging = folder.with_name(f".{folder.name}{TEMPORARY}")
    made: set[Path] = set()
    with file_lock(folder), access(folder, "written"):
        shutil.rmtree(staging, ignore_errors=True)  # what a killed run left
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
                raise FsckitError(f"{path}: holds no {' or '.join(suffixes)} file")
            top = list(staging.iterdir())
            os.sync()  # once, where a flush for each of 100,000 files would take minutes
            (top[0] if len(top) == 1 and top[0].is_dir() else staging).rename(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@dataclass(frozen=True)
class _Entry:
    """What an archive says of a member. `fault` is why it may not be read, if it may not."""

    name: str
    size: int
    fault: str | None
    read: Callable[[], bytes]


def _safe(path: Path, found: Iterable[_Entry], endings: tuple[str, ...]) -> Iterator[Member]:
    """The wanted members, each checked before it is handed out."""
    names: set[str] = set()
    total = 0
    most = _most(path)
    for entry in found:
        if not entry.name.lower().endswith(endings):
            continue
        name = "/".join(part for part in entry.name.split("/") if part not in ("", "."))
        total += entry.size
        fault = entry.fault or _unsafe(entry.name)
        if name in names:
            fault = fault or "comes twice"
        if entry.size > MAX_MEMBER or total > most:
            fault = fault or f"is too large ({entry.size:,} bytes)"
        if fault is not None:
            raise FsckitError(
                f"{path}: refused, since its member '{printable(entry.name[:200])}' {fault}; get "
                f"another archive, from a source that you trust"
            )
        names.add(name)
        yield Member(name, entry.size, entry.read)


def _most(path: Path) -> int:
    """The bytes that an archive may unpack to."""
    return MAX_UNPACKED + MAX_RATIO * path.stat().st_size


def _unsafe(name: str) -> str | None:
    """Why a member's path may lead out of the folder it is meant for, if it may."""
    if name.startswith("/") or _DRIVE.match(name):
        return "has an absolute path"
    if ".." in name.split("/"):
        return "has a path with '..'"
    return "has no proper name" if "\0" in name else None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What the libraries raise of an archive's bytes, as one sentence."""
    try:
        yield
    except FsckitError:
        raise
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise cannot_be("read", path, error) from None
        why = printable(str(error) or type(error).__name__)[:200]
        raise FsckitError(
            f"{path}: the archive is damaged or cut short ({why}); delete it and fetch it again"
        ) from None


def _of_zip(path: Path) -> Iterator[_Entry]:
    with _reading(path):
        archive = zipfile.ZipFile(path)  # open for as long as one of its members is held
    for info in archive.infolist():
        if not info.is_dir():
            yield _Entry(
                _zip_name(info), info.file_size, _zip_fault(info), partial(_unzip, archive, info)
            )


def _zip_name(info: zipfile.ZipInfo) -> str:
    r"""A member's path. Without the flag for UTF-8 zipfile takes a name for code page 437, where
    most programs wrote UTF-8; some write `\` for `/`."""
    name = info.filename
    if not info.flag_bits & 0x800:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return name.replace("\\", "/")


def _zip_fault(info: zipfile.ZipInfo) -> str | None:
    if info.flag_bits & 0x1:
        return "is encrypted"
    if info.compress_type not in _METHODS:
        return "is compressed in a way that Python does not know"
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the program was not of Unix
    return None if kind in (0, stat.S_IFREG) else "is a link or device"


def _unzip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A member's bytes; zipfile stops at the declared size and checks the CRC there."""
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
        # tarfile takes garbage, or nothing more, for the end; a whole tar ends with zeros.
        if len(file.last) < tarfile.BLOCKSIZE or file.last.strip(b"\0"):
            raise tarfile.ReadError("no member and no end where one should be")
        while file.read(2**20):  # for the checksum at the end of a gz
            pass


def _open(path: Path, packed: str | None) -> IO[bytes]:
    """The bytes of a tar, unpacked as they are read; tarfile itself overlooks a wrong checksum."""
    if packed is None:
        return path.open("rb")
    libraries = {"gz": gzip.GzipFile, "bz2": bz2.BZ2File, "xz": lzma.LZMAFile}
    return cast(IO[bytes], libraries[packed](path))


def _tar_name(name: str) -> str:
    """A member's path; what is not UTF-8 is read as Latin-1, where every byte is a letter."""
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
    """An archive's bytes, of which no more are unpacked than is reasonable; `last` are those that
    were read last."""

    def __init__(self, raw: IO[bytes], path: Path) -> None:
        self._raw = raw
        self._path = path
        self._most = _most(path)
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        # A header may claim a name of a terabyte, which tarfile would read in one piece.
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
                f"{self._path}: refused, since it unpacks to more than {self._most:,} bytes; get "
                f"another archive, from a source that you trust"
            )
