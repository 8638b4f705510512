"""One process at a time makes a file or folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from fscdata.contract import FsckitError, cannot_be


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """Hold the lock of a file or folder that is to be made; its parent folder is made.

    The lock's own small file stays: who removes it takes it away from those who wait for it.

    Raises:
        FsckitError: another process holds it, or the parent folder cannot be written.
    """
    lock = filelock.FileLock(target.with_name(f".{target.name}.lock"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise FsckitError(f"{target}: another fscdata is fetching it; wait for it") from None
    except OSError as error:
        raise cannot_be("written", target, error) from None
    try:
        yield
    finally:
        lock.release()
