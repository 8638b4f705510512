"""Locks shared by processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from fscdata.base.errors import FsckitError
from fscdata.base.paths import DataPath, access, cannot_be


@contextmanager
def file_lock(target: Path, hint: str = "wait for it to finish") -> Iterator[None]:
    """Lock a file or folder while it is being made; its parent folder is created.

    The lock file `.NAME.lock` beside the target is never removed: another process may already have
    opened it.

    Args:
        target: the file or folder.
        hint: what to do while another process holds the lock.

    Raises:
        FsckitError: another process holds it, or the parent folder cannot be written.
    """
    with access(target, "written"):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _hold(target.with_name(f".{target.name}.lock"), target, hint):
        yield


@contextmanager
def folder_lock(folder: DataPath) -> Iterator[None]:
    """Lock a data set's local folder; the lock file is inside it.

    Object stores have no locks, so nothing is locked there. Tables are written atomically and
    their bytes depend only on the settings, so two runs with the same settings merely do the work
    twice. Runs with different settings leave tables of mixed provenance, which every reader
    rejects.

    Raises:
        FsckitError: another process holds it, or the folder cannot be written.
    """
    if not isinstance(folder, Path):
        yield
        return
    with _hold(folder / ".fscdata.lock", folder, "wait for it to finish"):
        yield


@contextmanager
def _hold(lock_file: Path, target: Path, hint: str) -> Iterator[None]:
    lock = filelock.FileLock(lock_file)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise FsckitError(f"{target}: another process is using it; {hint}") from None
    except OSError as error:
        raise cannot_be("written", target, error) from None
    try:
        yield
    finally:
        lock.release()
