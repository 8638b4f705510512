"""Threads for network and disk I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

THREADS = 16  # an object store answers 16 requests as fast as one
GRACE = 1.0  # seconds threads get to finish


def parallel_map(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """`[function(item) for item in items]`, on 16 threads."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(function, items))


def run_concurrently(
    function: Callable[[T], R],
    items: Sequence[T],
    threads: int,
    stopped: Event,
    seconds: float | None = None,
) -> Generator[R, None, None]:
    """Yield the function's results as they become ready; the first error is raised.

    `stopped` is set on exit and on timeout; the function should check it. Threads waiting for an
    unresponsive server are abandoned: they cannot be stopped, and Ctrl-C must not wait for them.

    Args:
        function: called once per item.
        items: its arguments.
        threads: how many run at once.
        stopped: set on exit.
        seconds: time limit for all items; None for no limit.
    """
    places, lock = iter(range(len(items))), Lock()
    done: SimpleQueue[tuple[R] | BaseException] = SimpleQueue()

    def work() -> None:
        while not stopped.is_set():
            with lock:
                place = next(places, None)
            if place is None:
                return
            try:
                done.put((function(items[place]),))
            except BaseException as error:  # it would be lost in the thread
                done.put(error)

    workers = [Thread(target=work, daemon=True) for _ in range(min(threads, len(items)))]
    end = None if seconds is None else time.monotonic() + seconds
    try:
        for worker in workers:
            worker.start()
        for _ in items:
            result = done.get(timeout=None if end is None else max(end - time.monotonic(), 0))
            if isinstance(result, BaseException):
                raise result
            yield result[0]
    except Empty:
        return
    finally:
        stopped.set()
        end = time.monotonic() + GRACE
        for worker in workers:
            worker.join(max(end - time.monotonic(), 0))
