"""Loader workers that die: real processes, killed by real signals."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from torch import Tensor, full
from torch.utils.data import Dataset

from fscdata.base.errors import FsckitError
from fsctrain.data.loader import WorkerDiedError, load


class Numbers(Dataset[Tensor]):
    """Item i is a tensor of i; `before` is called first, in the worker."""

    def __init__(self, before: Callable[[int], object] = lambda number: None) -> None:
        self._before = before

    def __getitem__(self, number: int) -> Tensor:
        self._before(number)
        return full((100,), number)


def numbers(items: Iterator[Tensor]) -> list[int]:
    return [int(item[0]) for item in items]


def test_loads_in_order_and_ends_its_workers() -> None:
    for workers in (0, 2):
        assert numbers(load(Numbers(), range(2, 9), workers=workers)) == list(range(2, 9))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, "killed by SIGKILL, usually because memory ran out"),
        (signal.SIGBUS, "killed by SIGBUS, usually because shared memory, /dev/shm, is full"),
        (signal.SIGHUP, "killed by SIGHUP"),
        (signal.SIGRTMIN + 3, f"killed by signal {signal.SIGRTMIN + 3}"),
    ],
)
def test_a_death_is_raised_where_the_next_item_is_due(number: int, words: str) -> None:
    """The work between two items, such as a step or the writing of a state, is not interrupted."""
    with closing(load(Numbers(), range(1000), workers=2)) as items:
        next(items)
        victim = multiprocessing.active_children()[1]
        assert victim.pid is not None
        os.kill(victim.pid, number)
        victim.join()
        time.sleep(0.01)
        with pytest.raises(WorkerDiedError, match=f"^a data loader worker was {words}$"):
            next(items)
    assert not multiprocessing.active_children()
    assert numbers(load(Numbers(), range(3), workers=2)) == [0, 1, 2], "a later loader works"


def test_a_death_ends_the_wait_for_an_item_at_once() -> None:
    def die(number: int) -> None:
        if number == 5:
            os._exit(3)

    started = time.monotonic()
    with pytest.raises(WorkerDiedError, match="ended with exit code 3"):
        numbers(load(Numbers(die), range(1000), workers=1))
    assert time.monotonic() - started < 4, "torch looks only every five seconds"


def test_closing_after_a_death_does_not_wait_for_torch() -> None:
    items = load(Numbers(), range(1000), workers=2)
    next(items)
    for worker in multiprocessing.active_children():
        worker.kill()
        worker.join()
    items.close()
    assert not multiprocessing.active_children()


def test_another_error_stays_what_it_is() -> None:
    class Broken(Dataset[FsckitError]):
        def __getitem__(self, number: int) -> FsckitError:
            return FsckitError("x.tar: changed")

    with pytest.raises(FsckitError, match=r"^x.tar: changed$"):
        next(load(Broken(), range(3), workers=1))
