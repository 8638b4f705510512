"""Work on several threads."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Event

import pytest

from fscdata.base.errors import FsckitError
from fscdata.base.parallel import parallel_map, run_concurrently
from fscdata.base.paths import entries, size_of


def test_parallel_map_keeps_the_order(tmp_path: Path) -> None:
    for size in range(40):
        (tmp_path / f"{size:02d}").write_bytes(bytes(size))
    assert parallel_map(size_of, entries(tmp_path, "")) == list(range(40))
    with pytest.raises(FsckitError, match=r"gone: cannot be read \(No such file or directory\)$"):
        parallel_map(size_of, [tmp_path, tmp_path / "gone"])


def test_results_arrive_as_they_are_ready() -> None:
    first_may_end = Event()

    def work(item: int) -> int:
        if item == 0:
            first_may_end.wait(10)
        return item

    results = run_concurrently(work, range(3), 2, Event())
    assert [next(results), next(results)] == [1, 2]
    first_may_end.set()
    assert list(results) == [0]


def test_the_first_error_stops_the_others() -> None:
    stopped, started = Event(), []

    def work(item: int) -> None:
        started.append(item)
        if item > 0:
            time.sleep(0.05)
        raise FsckitError(f"item {item}")

    with pytest.raises(FsckitError, match="item 0"):
        list(run_concurrently(work, range(100), 1, stopped))
    assert stopped.is_set()
    assert len(started) < 100


def test_an_unresponsive_server_is_abandoned() -> None:
    stopped, begun = Event(), time.monotonic()
    wait = Event().wait

    def work(item: int) -> int:
        if item == 0:
            wait(30)
        return item

    assert list(run_concurrently(work, range(2), 2, stopped, seconds=0.2)) == [1]
    assert time.monotonic() - begun < 10
    assert stopped.is_set()
