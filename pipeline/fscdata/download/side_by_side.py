"""Waiting for several servers at a time, and leaving at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

GRACE = 1.0  # seconds that threads have to end


def side_by_side(
    function: Callable[[T], R],
    items: Sequence[T],
    at_once: int,
    stopped: Event,
    seconds: float | None = None,
) -> Generator[R, None, None]:
    """What the function gives for the items, as it is done; the first error is raised.

    At the end, that of the given time included, `stopped` is set for the function to look at. A
    thread that waits for a silent server is left behind: it cannot be ended, and Ctrl-C shall not
    wait for it.
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
            except BaseException as error:  # of a thread nobody would hear
                done.put(error)

    threads = [Thread(target=work, daemon=True) for _ in range(min(at_once, len(items)))]
    end = None if seconds is None else time.monotonic() + seconds
    try:
        for thread in threads:
            thread.start()
        for _ in items:
            came = done.get(timeout=None if end is None else max(end - time.monotonic(), 0))
            if isinstance(came, BaseException):
                raise came
            yield came[0]
    except Empty:
        return
    finally:
        stopped.set()
        end = time.monotonic() + GRACE
        for thread in threads:
            thread.join(max(end - time.monotonic(), 0))
