"""Files that carry their final name only when they are whole, and one run at a time."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import filelock
import pyarrow as pa
import pyarrow.parquet as pq

from fscdata.contract import (
    DataPath,
    FsckitError,
    Metadata,
    access,
    cannot_be,
    entries,
    write_metadata,
)

TEMPORARY = ".tmp"  # the ending of every file that is not finished


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A local file to write that gets its name when the block ends well, and leaves nothing
    otherwise; two processes may write it at once.

    Raises:
        FsckitError: the disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        sync(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        # An error that names a file elsewhere is about what the block was reading.
        if isinstance(error, OSError) and (
            error.filename is None or Path(error.filename) in (temporary, *path.parents)
        ):
            raise cannot_be("written", path, error) from None
        raise


def sync(path: Path) -> None:
    """Bring a file's bytes or a folder's names to the disk: a rename is lost with the power
    otherwise."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_parquet(path: DataPath, table: pa.Table, metadata: Metadata) -> int:
    """Write a table and its metadata atomically; returns the bytes written.

    Raises:
        FsckitError: the disk is full, or the place cannot be written or reached.
    """
    table = table.replace_schema_metadata(write_metadata(table.schema, metadata).metadata)
    buffer = pa.BufferOutputStream()
    pq.write_table(
        table, buffer, compression="zstd", row_group_size=65_536, write_page_checksum=True
    )
    content = buffer.getvalue()
    if isinstance(path, Path):
        with atomic_file(path) as file:
            file.write(content)
    else:
        with access(path, "written"):  # an object is there whole or not at all
            path.fs.pipe_file(path.path, content.to_pybytes())
    return len(content)


def remove_temporary(data: DataPath) -> None:
    """Remove the unfinished tables that an interrupted run left behind."""
    for file in temporary_files(data):
        file.unlink(missing_ok=True)


def temporary_files(data: DataPath) -> list[Path]:
    """The unfinished tables of an interrupted run; object stores have none."""
    if not isinstance(data, Path):
        return []
    folders = (data / "samples", *entries(data / "negatives", ""))
    files = (file for folder in folders for file in entries(folder, TEMPORARY))
    return [file for file in files if file.name.startswith(".") and ".parquet" in file.name]


@contextmanager
def locked(data: DataPath) -> Iterator[None]:
    """Hold the lock of a local data set.

    Object stores have no locks, so there nothing is held: tables come whole or not at all and
    their bytes depend on the settings alone, so two runs of the same settings do the work twice and
    harm nothing. Two of different settings leave tables of mixed provenance, which readers refuse.

    Raises:
        FsckitError: another run holds it, or the folder cannot be written.
    """
    if not isinstance(data, Path):
        yield
        return
    with held(data / ".fscdata.lock", data, "is at work on this folder"):
        yield


@contextmanager
def held(lock_file: Path, target: Path, doing: str) -> Iterator[None]:
    """Hold the lock of `target`, which another fscdata may hold while it is `doing` something.

    Raises:
        FsckitError: another process holds it, or its folder cannot be written.
    """
    lock = filelock.FileLock(lock_file)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise FsckitError(f"{target}: another fscdata {doing}; wait for it") from None
    except OSError as error:
        raise cannot_be("written", target, error) from None
    try:
        yield
    finally:
        lock.release()
