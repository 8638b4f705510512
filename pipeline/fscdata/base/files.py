"""Files and folders that get their final name only when they are complete."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from fscdata.base.paths import cannot_be

TEMPORARY = ".tmp"  # suffix of every unfinished file and folder


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a local file that appears under its name only if the block succeeds.

    Two processes may write the same file at once: the last to finish wins. Missing parent folders
    are created.

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
        # An error that names a file elsewhere comes from something the block was reading.
        if isinstance(error, OSError) and (
            error.filename is None or Path(error.filename) in (temporary, *path.parents)
        ):
            raise cannot_be("written", path, error) from None
        raise


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically.

    Raises:
        FsckitError: see `atomic_file`.
    """
    with atomic_file(path) as file:
        file.write(text.encode())


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to `folder` if the block succeeds.

    Its files are flushed to disk first. The leftovers of a killed process are removed.
    """
    temporary = folder.with_name(f".{folder.name}{TEMPORARY}")
    if temporary.exists():
        shutil.rmtree(temporary)
    temporary.mkdir(parents=True)
    try:
        yield temporary
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    for path in (*temporary.iterdir(), temporary):
        sync(path)
    temporary.rename(folder)
    sync(folder.parent)


def sync(path: Path) -> None:
    """Flush a file or a folder's entries to disk: a power cut can undo an unflushed rename."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
