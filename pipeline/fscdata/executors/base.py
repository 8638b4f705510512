"""Code shared by all executors: items, attempts and outcomes.

Each engine is a module with `check` and `open_crew`. A `Crew` only runs attempts; everything about
retries and outcomes is here.
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

# Per item, whatever the failure: retrying a damaged tar costs next to nothing, and a list of
# transient errors would never be complete.
ATTEMPTS = 2
GRACE = 5.0  # seconds a stopped worker gets to clean up
CONNECT_TIMEOUT = 10.0  # seconds for a cluster's head to answer
REASON_CHARACTERS = 500
DIED = "its worker was killed or crashed (out of memory?)"
# One thread per worker: there is one worker per core, and extra threads would only compete.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"), "1"
)

Tick = Callable[[int, int], None]  # (done, of) within one item, called by the step
Step = Callable[[T, Tick], R]  # picklable, as are T and R
ItemTick = Callable[[int, int, int], None]  # (index of the item, done, of), called in the driver
Reply = bytes | str  # the result of `attempt`, or why its worker ended


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """The result of the item at `index`, or the reason it failed."""

    index: int
    result: R | None
    reason: str | None
    attempts: int


class Crew(Protocol):
    """Workers that live until their context exits, which stops running attempts."""

    @property
    def window(self) -> int:
        """How many items to submit at a time to keep every worker busy."""

    def submit(self, index: int, item: bytes) -> None:
        """Start `attempt` on a pickled item."""

    def replies(self) -> list[tuple[int, Reply]]:
        """Wait for one or more replies, each with the index of its item."""


@dataclass(frozen=True)
class Executor:
    """Runs a step over items in an engine's workers."""

    open_crew: Callable[[bytes, ItemTick], AbstractContextManager[Crew]]

    def run(
        self,
        step: Step[T, R],
        items: Sequence[T],
        tick: ItemTick = lambda index, done, of: None,
    ) -> Generator[Outcome[R], None, None]:
        """Yield one outcome per item as they finish; an item that fails is retried once.

        A failure may be an exception, a killed worker or a lost node; it never stops the other
        items. Closing the iterator stops the workers. Each worker unpickles the step once and
        keeps it, so whatever the step loads is loaded once per worker. Only `local` forwards
        ticks, a few per second.

        Raises:
            FsckitError: the engine cannot be started or reached.
        """
        if not items:
            return
        fresh = ((index, 1) for index in range(len(items)))
        retries: deque[tuple[int, int]] = deque()  # (index, attempt number), like fresh
        running: dict[int, int] = {}  # index → attempt number
        with self.open_crew(pickle.dumps(step), tick) as crew:
            while True:
                while len(running) < crew.window:
                    # Retries come first, so that an error that affects every item shows up early.
                    index, number = retries.popleft() if retries else next(fresh, (-1, 0))
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
                        retries.append((index, number + 1))
                    else:
                        yield Outcome(index, result, reason, number)


def attempt(step: bytes, item: bytes, tick: Tick = lambda done, of: None) -> bytes:
    """Run a pickled step on a pickled item; called in a worker.

    Returns the pickled (result, None) or (None, reason). Because it is pickled here, an unpicklable
    result fails only its own item, in every engine.
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
    """An error as one line, with its type unless it is a user's mistake."""
    text = printable(" ".join(str(error).split()))[:REASON_CHARACTERS]
    if isinstance(error, FsckitError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def usable_cpus() -> int:
    """The CPUs this process may use: its affinity, limited by its container's cgroup v2 quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cpus
    return cpus if quota == "max" else max(1, min(cpus, math.ceil(int(quota) / int(period))))


def exit_on_signal(number: int, frame: object) -> None:
    """A worker's signal handler: raises, so that `finally` blocks run."""
    raise SystemExit(128 + number)


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for processes started inside the block."""
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
def signals_deferred() -> Iterator[None]:
    """Defer SIGINT and SIGTERM while an engine starts, and restore the driver's handlers.

    An interrupted start would leave orphaned processes behind, and engines replace the driver's
    handlers with their own.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [
        signal.signal(number, lambda number, _: received.append(number)) for number in numbers
    ]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


def refuse_unreachable(address: str, host: str, port: int) -> None:
    """Raise FsckitError if nothing is listening; the engines themselves would wait for minutes."""
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT).close()
    except OSError as error:
        raise FsckitError(
            f"`address` {address}: cannot be reached ({error.strerror or error}); check that the "
            f"cluster is running"
        ) from None
