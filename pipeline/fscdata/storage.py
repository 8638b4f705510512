"""Files that carry their final name only when they are whole, and one run at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import filelock
import pyarrow as pa
import pyarrow.parquet as pq

from fscdata.contract import FsckitError, Metadata, write_metadata

TEMPORARY = ".tmp"  # the ending of every file that is not finished


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that gets its name when the block ends well, and leaves nothing otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_parquet(path: Path, table: pa.Table, metadata: Metadata) -> int:
    """Write a table and its metadata atomically; returns the bytes written."""
    table = table.replace_schema_metadata(write_metadata(table.schema, metadata).metadata)
    with atomic_file(path) as file:
        pq.write_table(table, file, compression="zstd", row_group_size=65_536)
    return path.stat().st_size


def remove_temporary(data: Path) -> None:
    """Remove the unfinished tables that an interrupted run left behind."""
    unfinished = f".*.parquet{TEMPORARY}"
    for file in [*data.glob(f"samples/{unfinished}"), *data.glob(f"negatives/*/{unfinished}")]:
        file.unlink()


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Hold the data set's lock.

    Raises:
        FsckitError: another run holds it, or the folder cannot be written.
    """
    lock = filelock.FileLock(data / ".fscdata.lock")
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise FsckitError(
            f"{data}: another fscdata is at work on this folder; wait for it"
        ) from None
    except OSError as error:
        raise FsckitError(f"{data}: cannot be written ({error.strerror})") from None
    try:
        yield
    finally:
        lock.release()
