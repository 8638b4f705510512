"""What all engines share: the protocol, one attempt inside a worker, and the second attempt.

An engine is a module with `open_crew`, which gives a `Crew`: where attempts run. All that concerns
items, attempts and outcomes is here, once.
"""

from __future__ import annotations

import math
import os
import pickle
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from fscdata.base.errors import FsckitError
from fscdata.base.text import printable

T = TypeVar("T")
R = TypeVar("R")

ATTEMPTS = 2  # of every item, whatever made the first one fail
GRACE = 5.0  # seconds that a stopped worker has for its clean-ups
REACH = 10.0  # seconds to wait for a cluster's head to answer
REASON_CHARACTERS = 500
DIED = "its worker was killed or crashed (out of memory?)"
# One thread a worker: threads that wait for one another cost more than they give.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"), "1"
)

Tick = Callable[[int, int], None]  # (done, of) inside one item, said by the step
Step = Callable[[T, Tick], R]  # picklable; T and R too
ItemTick = Callable[[int, int, int], None]  # (index of the item, done, of), heard by the driver
Reply = bytes | str  # what `attempt` gave, or how its worker ended


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """What became of the item at `index`: its result, or the reason why there is none."""

    index: int
    result: R | None
    reason: str | None
    attempts: int


class Crew(Protocol):
    """Workers that are there until their context ends, which stops what still runs."""

    @property
    def window(self) -> int:
        """How many items to have under way: enough to keep every worker busy."""

    def submit(self, index: int, item: bytes) -> None:
        """Have `attempt` made of a pickled item."""

    def replies(self) -> list[tuple[int, Reply]]:
        """Wait for one reply or more, each with the index of its item."""


@dataclass(frozen=True)
class Executor:
    """Runs a step over items in the workers of an engine."""

    open_crew: Callable[[bytes, ItemTick], AbstractContextManager[Crew]]

    def run(
        self,
        step: Step[T, R],
        items: Sequence[T],
        tick: ItemTick = lambda index, done, of: None,
    ) -> Generator[Outcome[R], None, None]:
        """One outcome an item, as they finish; an item that fails is tried once more.

        A failure is an exception, a worker that is killed, a node that is lost: it never stops
        the others. Closing the iterator stops the workers. Each worker unpickles the step once
        and keeps it, so what the step loads when first called is loaded once a worker. Only
        `local` carries ticks, a few a second.

        Raises:
            FsckitError: the engine cannot be started or reached.
        """
        if not items:
            return
        fresh = ((index, 1) for index in range(len(items)))
        again: deque[tuple[int, int]] = deque()
        running: dict[int, int] = {}  # index → which attempt
        with self.open_crew(pickle.dumps(step), tick) as crew:
            while True:
                while len(running) < crew.window:
                    # Failures come first, so that what ails every item is heard of at once.
                    index, number = again.popleft() if again else next(fresh, (-1, 0))
                    if not number:
                        break
                    crew.submit(index, pickle.dumps(items[index]))
                    running[index] = number
                if not running:
                    return
                for index, reply in crew.replies():
                    number = running.pop(index)
                    result, reason = _read(reply)
                    if reason is not None and number < ATTEMPTS:
                        again.append((index, number + 1))
                    else:
                        yield Outcome(index, result, reason, number)


def attempt(step: bytes, item: bytes, tick: Tick = lambda done, of: None) -> bytes:
    """Inside a worker: the pickled (result, reason) of a pickled step and item, one being None.

    Pickled here, so that a result that cannot be is a failure of its item in every engine.
    """
    try:
        return pickle.dumps((_step(step)(pickle.loads(item), tick), None))  # noqa: S301  (ours)
    except Exception as error:
        return pickle.dumps((None, reason_of(error)))


@lru_cache(maxsize=1)
def _step(step: bytes) -> Step[Any, Any]:
    try:
        loaded: Step[Any, Any] = pickle.loads(step)  # noqa: S301  (the driver's)
    except (ImportError, AttributeError) as error:
        raise FsckitError(
            f"the worker cannot import the step ({error}); install the same fsckit on every machine"
        ) from None
    return loaded


def _read(reply: Reply) -> tuple[Any, str | None]:
    if isinstance(reply, str):
        return None, reply
    try:
        result, reason = pickle.loads(reply)  # noqa: S301  (our own worker's)
    except Exception as error:
        return None, reason_of(error)
    return result, reason


def reason_of(error: BaseException) -> str:
    """Why something failed, on one line; all but a user's mistake with the type of the error."""
    text = printable(" ".join(str(error).split()))[:REASON_CHARACTERS]
    if isinstance(error, FsckitError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def usable_cpus() -> int:
    """The CPUs that this process may use: its affinity, and its container's quota (cgroup v2)."""
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cpus
    return cpus if quota == "max" else max(1, min(cpus, math.ceil(int(quota) / int(period))))


def leave(number: int, frame: object) -> None:
    """A worker's handler of the signal that stops it: an exception, so that clean-ups run."""
    raise SystemExit(128 + number)


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that are started inside the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back while an engine starts, and keep the driver's handlers.

    A start that breaks off leaves processes behind that nobody knows; and an engine puts handlers
    of its own in the place of the driver's.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, _: held.append(number)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])


def refuse_unreachable(address: str, host: str, port: int) -> None:
    """Raises FsckitError where nothing listens: the engines themselves wait for minutes."""
    try:
        socket.create_connection((host, port), timeout=REACH).close()
    except OSError as error:
        raise FsckitError(
            f"--address {address}: cannot be reached ({error.strerror or error}); is it up?"
        ) from None
