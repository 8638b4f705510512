"""Processes on this machine, each with its own pipe.

Workers are spawned: forking is a second faster, but Arrow's threads and s3fs do not survive it.
There is no shared queue, because a worker killed while holding its lock would block all others.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection, resource_tracker
from multiprocessing.context import SpawnProcess
from typing import Any

from fscdata.executors.base import (
    GRACE,
    ONE_THREAD,
    Crew,
    ItemTick,
    Reply,
    Tick,
    attempt,
    environment,
    exit_on_signal,
)

TICK_SECONDS = 0.2  # minimum time between two ticks from a worker


def check(address: str | None) -> None:
    """A local run has no requirements."""


@contextmanager
def open_crew(step: bytes, tick: ItemTick, workers: int, address: str | None) -> Iterator[Crew]:
    """Up to `workers` processes, started when needed; 0 means this process."""
    if not workers:
        yield InProcess(step, tick)
        return
    crew = LocalCrew(step, tick, workers)
    try:
        yield crew
    finally:
        crew.stop()


class InProcess:
    """Runs in the driver, for few items, debuggers and profilers. A crash ends the driver."""

    window = 1

    def __init__(self, step: bytes, tick: ItemTick) -> None:
        self._step = step
        self._tick = tick
        self._done: list[tuple[int, Reply]] = []

    def submit(self, index: int, item: bytes) -> None:
        self._done.append((index, attempt(self._step, item, partial(self._tick, index))))

    def replies(self) -> list[tuple[int, Reply]]:
        done, self._done = self._done, []
        return done


@dataclass(eq=False)
class Worker:
    """A process, our end of its pipe, and the index of its item."""

    process: SpawnProcess
    pipe: connection.Connection
    index: int | None = None


class LocalCrew:
    """The worker processes; dead ones are replaced when next needed."""

    def __init__(self, step: bytes, tick: ItemTick, workers: int) -> None:
        self.window = workers
        self._step = step
        self._tick = tick
        self._workers: list[Worker] = []

    def submit(self, index: int, item: bytes) -> None:
        idle = next((worker for worker in self._workers if worker.index is None), None)
        worker = idle or self._start()
        try:
            worker.pipe.send_bytes(item)
        except OSError:  # it died while idle, so no item is lost
            self._remove(worker)
            worker = self._start()
            worker.pipe.send_bytes(item)
        worker.index = index

    def replies(self) -> list[tuple[int, Reply]]:
        replies: list[tuple[int, Reply]] = []
        while not replies:
            sources: dict[Any, Worker] = {w.pipe: w for w in self._workers}
            sources |= {w.process.sentinel: w for w in self._workers}
            for worker in {sources[source] for source in connection.wait(list(sources))}:
                index, reply = worker.index, self._receive(worker)
                if index is not None and reply is not None:
                    worker.index = None
                    replies.append((index, reply))
        return replies

    def _receive(self, worker: Worker) -> Reply | None:
        """Forward a worker's ticks; return its reply, or None if it has not finished."""
        alive = worker.process.is_alive()  # before reading: a reply sent before it died counts
        try:
            while worker.pipe.poll():
                message = worker.pipe.recv()
                if isinstance(message, bytes):
                    return message
                if worker.index is not None:
                    self._tick(worker.index, *message)
        except (EOFError, OSError):
            alive = False
        return None if alive else self._remove(worker)

    def _start(self) -> Worker:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=_work, args=(theirs, self._step), daemon=True
        )
        with environment(ONE_THREAD), _interrupts_blocked():
            process.start()
        theirs.close()
        worker = Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _remove(self, worker: Worker) -> str:
        """Remove a dead or dying worker; return why it ended."""
        self._workers.remove(worker)
        worker.process.join(GRACE)
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        return _ending(worker.process.exitcode or 0)

    def stop(self) -> None:
        """Stop all workers: idle ones exit when their pipe closes, the others get SIGTERM."""
        for worker in self._workers:
            if worker.index is None:
                worker.pipe.close()
            else:
                worker.process.terminate()
        deadline = time.monotonic() + GRACE
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Start workers with Ctrl-C blocked from the beginning; the driver stops them."""
    resource_tracker.ensure_running()  # it unblocks SIGINT if it starts inside the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ending(code: int) -> str:
    """Why a process ended; an exit code that is negative or above 128 means a signal."""
    try:
        name = signal.Signals(-code if code < 0 else code - 128).name
    except ValueError:
        return f"its worker exited with code {code}"
    return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def _work(pipe: connection.Connection, step: bytes) -> None:
    """A worker's loop: receive an item, send its reply, until the pipe is closed."""
    signal.signal(signal.SIGTERM, exit_on_signal)
    threading.Thread(target=_end_with_driver, daemon=True).start()
    os.dup2(2, 1)  # a step's prints must not mix with the command's output
    sys.meta_path.insert(0, NoPandas())
    tick = _limited(pipe)
    while True:
        try:
            item = pipe.recv_bytes()
        except (EOFError, OSError):
            sys.stdout.flush()
            os._exit(0)  # skip Python's slow teardown of everything loaded
        pipe.send(attempt(step, item, tick))


class NoPandas:
    """Hides pandas: pyarrow imports it, if installed, when it first converts a list, which would
    needlessly cost each worker half a second and 50 MB."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is hidden from workers", name=name)


def _end_with_driver() -> None:
    """End this process when the driver ends, even if the driver is killed."""
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os._exit(1)


def _limited(pipe: connection.Connection) -> Tick:
    """A tick that sends at most one message per TICK_SECONDS."""
    last = -TICK_SECONDS

    def tick(done: int, of: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= TICK_SECONDS:
            last = now
            pipe.send((done, of))

    return tick
