"""Steps that succeed and fail in every way; workers import this module."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fscdata.base.errors import FsckitError
from fscdata.executors import Tick


def attempts_so_far(folder: str, item: int) -> int:
    """The number of calls of `note` for an item."""
    file = Path(folder, f"attempts-{item}")
    return file.stat().st_size if file.exists() else 0


def note(folder: str, item: int) -> int:
    """Count an attempt on disk, so that it outlives the worker; returns its number."""
    with Path(folder, f"attempts-{item}").open("ab") as file:
        file.write(b".")
    return attempts_so_far(folder, item)


def fail(message: str) -> None:
    raise ValueError(message)


def refuse() -> None:
    raise FsckitError("00003.tar: the tar is damaged; fetch or pack it again")


FAILURES: dict[str, Callable[[], object]] = {
    "exception": lambda: fail("first line\nsecond \x1b[31mline"),
    "refusal": refuse,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(3),
    "unpicklable": lambda: lambda: None,
}


@dataclass(frozen=True)
class Square:
    """Returns an item's square; items in `how` fail on their first `times` attempts."""

    folder: str
    how: dict[int, str] = field(default_factory=dict)
    times: int = 0

    def __call__(self, item: int, tick: Tick) -> object:
        print(f"printed by item {item}", flush=True)
        if note(self.folder, item) <= self.times and item in self.how:
            return FAILURES[self.how[item]]()
        return item * item


@dataclass(frozen=True)
class Megabytes:
    """Returns as many megabytes as the item."""

    def __call__(self, item: int, tick: Tick) -> bytes:
        return bytes(item * 2**20)


@dataclass(frozen=True)
class Count:
    """Counts to the item and ticks."""

    def __call__(self, item: int, tick: Tick) -> int:
        for done in range(item + 1):
            tick(done, item)
            time.sleep(0.01)
        return item


@dataclass(frozen=True)
class Wait:
    """Item 0 ends at once; the others wait to be stopped and record their clean-up."""

    folder: str

    def __call__(self, item: int, tick: Tick) -> int:
        if item == 0:
            return os.getpid()
        number = note(self.folder, item)
        pid = Path(self.folder, f"pid-{item}-{number}")
        pid.with_suffix(".tmp").write_text(str(os.getpid()))
        pid.with_suffix(".tmp").rename(pid)
        try:
            for _ in range(1200):
                time.sleep(0.1)
        finally:
            Path(self.folder, f"cleaned-{item}-{number}").touch()
        return item


def threads(item: int, tick: Tick) -> list[str | None]:
    """The thread limits of numeric libraries."""
    libraries = ("OMP", "OPENBLAS", "MKL", "BLIS")
    return [os.environ.get(f"{library}_NUM_THREADS") for library in libraries]
