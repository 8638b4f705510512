"""Processes of this machine, one pipe each: a killed worker can block no other."""

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
    leave,
)

TICK_SECONDS = 0.2  # between two ticks of a worker


def refuse(address: str | None) -> None:
    """Nothing that a local run could lack."""


@contextmanager
def open_crew(step: bytes, tick: ItemTick, workers: int, address: str | None) -> Iterator[Crew]:
    """Up to `workers` processes, started as they are needed; 0 stands for this process."""
    if not workers:
        yield InProcess(step, tick)
        return
    crew = LocalCrew(step, tick, workers)
    try:
        yield crew
    finally:
        crew.stop()


class InProcess:
    """No worker at all: for a few items, debuggers and profilers. A crash is the driver's own."""

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
    """A process, our end of its pipe, and the item it works on."""

    process: SpawnProcess
    pipe: connection.Connection
    index: int | None = None


class LocalCrew:
    """The processes; one that dies is replaced when it is next needed."""

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
        except OSError:  # it died while idle, and so took nothing with it
            self._bury(worker)
            worker = self._start()
            worker.pipe.send_bytes(item)
        worker.index = index

    def replies(self) -> list[tuple[int, Reply]]:
        replies: list[tuple[int, Reply]] = []
        while not replies:
            sources: dict[Any, Worker] = {w.pipe: w for w in self._workers}
            sources |= {w.process.sentinel: w for w in self._workers}
            for worker in {sources[source] for source in connection.wait(list(sources))}:
                index, reply = worker.index, self._hear(worker)
                if index is not None and reply is not None:
                    worker.index = None
                    replies.append((index, reply))
        return replies

    def _hear(self, worker: Worker) -> Reply | None:
        """What a worker has to say; None where it has not finished."""
        alive = worker.process.is_alive()  # asked first: what it said before it died still counts
        try:
            while worker.pipe.poll():
                message = worker.pipe.recv()
                if isinstance(message, bytes):
                    return message
                if worker.index is not None:
                    self._tick(worker.index, *message)
        except (EOFError, OSError):
            alive = False
        return None if alive else self._bury(worker)

    def _start(self) -> Worker:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=_work, args=(theirs, self._step), daemon=True
        )
        with environment(ONE_THREAD), _interrupts_held():
            process.start()
        theirs.close()
        worker = Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _bury(self, worker: Worker) -> str:
        """Forget a worker that is dead or dying; returns how it ended."""
        self._workers.remove(worker)
        worker.process.join(GRACE)
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        return _ending(worker.process.exitcode or 0)

    def stop(self) -> None:
        """Stop all workers: the idle ones end by themselves, the others get SIGTERM."""
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
def _interrupts_held() -> Iterator[None]:
    """Start workers deaf to Ctrl-C, from their first moment on: the driver decides."""
    resource_tracker.ensure_running()  # would let the signal through, were it started inside
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ending(code: int) -> str:
    """How a process ended, from its exit code: negative, or above 128, for a signal."""
    try:
        name = signal.Signals(-code if code < 0 else code - 128).name
    except ValueError:
        return f"its worker ended with exit code {code}"
    return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def _work(pipe: connection.Connection, step: bytes) -> None:
    """A worker's life: items come, replies go, until the pipe is closed."""
    signal.signal(signal.SIGTERM, leave)
    threading.Thread(target=_end_with_driver, daemon=True).start()
    os.dup2(2, 1)  # what a step prints is not the command's output
    sys.meta_path.insert(0, NoPandas())
    tick = _limited(pipe)
    while True:
        try:
            item = pipe.recv_bytes()
        except (EOFError, OSError):
            sys.stdout.flush()
            os._exit(0)  # to take Python down with all that it has loaded takes a while
        pipe.send(attempt(step, item, tick))


class NoPandas:
    """Keeps pyarrow from importing pandas, where it is installed, at the first list that it is
    given: half a second and 50 MB a worker, for nothing."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("workers do without pandas", name=name)


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os._exit(1)


def _limited(pipe: connection.Connection) -> Tick:
    last = -TICK_SECONDS

    def tick(done: int, of: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= TICK_SECONDS:
            last = now
            pipe.send((done, of))

    return tick
