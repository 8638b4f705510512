"""Threads for work that waits on networks and disks."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

THREADS = 16  # an object store answers that many requests as fast as one
GRACE = 1.0  # seconds that threads have to end


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
    """Yield the function's results as they are ready; the first error is raised.

    On exit, and when the time is up, `stopped` is set; the function should check it. Threads that
    wait for a silent server are abandoned: they cannot be ended, and Ctrl-C must not wait for them.

    Args:
        function: called once for each item.
        items: its arguments.
        threads: how many run at once.
        stopped: set on exit.
        seconds: time limit for all items; None for none.
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
            except BaseException as error:  # nobody would see it in a thread
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
