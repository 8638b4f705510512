"""One process at a time makes a file or folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fscdata.contract import access
from fscdata.storage import held


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """Hold the lock of a file or folder that is to be made; its parent folder is made.

    The lock's own small file stays: who removes it takes it away from those who wait for it.

    Raises:
        FsckitError: another process holds it, or the parent folder cannot be written.
    """
    with access(target, "written"):
        target.parent.mkdir(parents=True, exist_ok=True)
    with held(target.with_name(f".{target.name}.lock"), target, "is fetching it"):
        yield
