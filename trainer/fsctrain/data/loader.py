"""The only use of torch's DataLoader: training, streaming and scoring all load through `load`."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from fscdata.base.errors import FsckitError

T = TypeVar("T")

LINGER = 1.0  # seconds for a dying worker to end, once its connections are closed
CAUSES = {
    signal.SIGKILL: "usually because memory ran out",
    signal.SIGBUS: "usually because shared memory, /dev/shm, is full",
}


class WorkerDiedError(FsckitError):
    """A process that loads data ended before its work was done."""

    @classmethod
    def of(cls, worker: BaseProcess) -> WorkerDiedError:
        """The error for a worker that has died."""
        code = worker.exitcode or 0
        if code >= 0:
            return cls(f"a data loader worker ended with exit code {code}")
        try:
            number = signal.Signals(-code)
        except ValueError:  # a real-time signal
            return cls(f"a data loader worker was killed by signal {-code}")
        cause = f", {CAUSES[number]}" if number in CAUSES else ""
        return cls(f"a data loader worker was killed by {number.name}{cause}")


def load(
    dataset: Dataset[T | FsckitError],
    indices: range | None,
    *,
    workers: int,
    pin_memory: bool = False,
) -> Iterator[T]:
    """Yield the items of a data set in order, each a whole batch.

    Args:
        dataset: returns errors as items instead of raising them, since torch would wrap a worker's
            exception in a traceback.
        indices: the items to load; None for an iterable data set, which chooses its own.
        workers: processes that load the items; 0 loads them in this process.
        pin_memory: whether to lock the pages of a batch, for the copy to a GPU.

    Raises:
        FsckitError: an item is an error.
        WorkerDiedError: a worker has died. It is raised only where the next item is due, so the
            caller's own work is never interrupted.
    """
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_ignore_signals,
        # Its own generator: the loader draws a seed at its start, and drawing it from torch's
        # global generator would shift the dropout of a resumed run.
        generator=torch.Generator(),
        # Forked workers start fast and share the tables' memory; forking is safe only on Linux.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
    )
    for item in _items(loader) if workers else loader:
        if isinstance(item, FsckitError):
            raise item
        yield item


def _ignore_signals(worker: int) -> None:
    """Ctrl-C reaches the whole process group; the run ends its workers after saving its state."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _items(loader: DataLoader[T]) -> Iterator[T]:
    """The items of a loader with workers."""
    iterator: Any = iter(loader)
    workers = _Workers(iterator._workers)
    with workers.watched():
        try:
            while True:
                try:
                    item = workers.next_item(iterator)
                except StopIteration:
                    return
                yield item
        finally:
            if workers.dead() is not None:
                # torch would take locks that a killed worker may hold, and wait for ever.
                workers.kill()
                iterator._shutdown = True
                torch._C._remove_worker_pids(id(iterator))
            del iterator  # torch ends the workers here


class _Workers:
    """The processes of a loader."""

    def __init__(self, processes: list[BaseProcess]) -> None:
        self._processes = processes
        self._waiting = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside the block, a death interrupts `next_item` and nothing else.

        torch's own handler of SIGCHLD raises its error anywhere, for example in the middle of an
        optimizer step, after which no consistent state is left to save. Python allows handlers only
        in the main thread; elsewhere torch looks for dead workers every five seconds.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGCHLD, self._on_death)
        try:
            yield
        finally:
            signal.signal(signal.SIGCHLD, before)

    def next_item(self, iterator: Iterator[T]) -> T:
        """Wait for the next item.

        Raises:
            StopIteration: there is none.
            WorkerDiedError: a worker has died.
        """
        self._waiting = True
        try:
            self._check()
            return next(iterator)
        except (RuntimeError, OSError, EOFError):
            # torch noticed a dead worker, or one that is dying has closed its sockets.
            by_sentinel = {process.sentinel: process for process in self._processes}
            for sentinel in wait(by_sentinel, LINGER):
                by_sentinel[sentinel].join(LINGER)  # type: ignore[index]  # it is a key
            self._check()
            raise
        finally:
            self._waiting = False

    def dead(self) -> BaseProcess | None:
        """A worker that has died, if any. Those that are done end with code 0."""
        return next((process for process in self._processes if process.exitcode), None)

    def kill(self) -> None:
        """End all workers at once."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()

    def _on_death(self, number: int, frame: FrameType | None) -> None:
        if self._waiting:
            self._check()

    def _check(self) -> None:
        process = self.dead()
        if process is not None:
            raise WorkerDiedError.of(process)
