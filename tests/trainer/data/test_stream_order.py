"""A stream's order: every row once per epoch, and the same number of steps on every rank."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from fsctrain.data.order import Order
from fsctrain.data.stream_order import SHUFFLE_BUFFER, Span, assign, shuffle

SHARDS = [[5, 9, 3], [4, 6]]  # rows of each data set's shards


def order(sets: int, rank: int = 0, ranks: int = 1, weights: tuple[float, ...] = (1.0, 2.0)):
    sizes = tuple(sum(rows) for rows in SHARDS[:sets])
    return Order(sizes, weights[:sets], 3, 4, rank, ranks)


def rows_of(spans: list[Span]) -> list[tuple[int, int]]:
    return [(span.shard, row) for span in spans for row in range(span.start, span.stop)]


@pytest.mark.parametrize("sets", [1, 2])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_streams_every_row_once_per_epoch(sets: int, ranks: int, workers: int) -> None:
    """Even with fewer shards than workers; steps have as many rows as in the indexed order."""
    for epoch in range(3):
        seen: Counter[tuple[int, int]] = Counter()
        firsts = []
        for rank in range(ranks):
            of_rank = order(sets, rank, ranks)
            counts = {}
            for worker in range(workers):
                found = assign(of_rank, SHARDS[:sets], epoch, worker, workers)
                rows = rows_of(found.spans)
                assert len(rows) == sum(found.counts)
                assert {step % workers for step in found.steps} <= {worker}
                seen.update(rows)
                firsts += range(found.first, found.first + len(rows))
                counts |= dict(zip(found.steps, found.counts, strict=True))
            per_epoch = of_rank.steps_per_epoch
            steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
            assert counts == {step: len(of_rank.positions(step)[1]) for step in steps}
        assert firsts == list(range(order(sets).rows_per_epoch))  # the crops' positions
        expected = {(s, row): 1 for s in range(3) for row in range(SHARDS[0][s])}
        if sets == 2:
            expected |= {(3 + s, row): 2 for s in range(2) for row in range(SHARDS[1][s])}
        assert seen == expected


def test_shuffles_the_shards_every_epoch() -> None:
    rows = [[10] * 20]
    alone = Order((200,), (1.0,), 0, 10)
    epochs = [[p.shard for p in assign(alone, rows, epoch, 0, 1).spans] for epoch in range(3)]
    assert all(sorted(shards) == list(range(20)) for shards in epochs)
    assert epochs[0] != epochs[1] != epochs[2] and epochs[0] != sorted(epochs[0])
    other = Order((200,), (1.0,), 1, 10)
    assert [p.shard for p in assign(other, rows, 0, 0, 1).spans] != epochs[0]


def test_a_weight_below_1_continues_in_the_next_epoch() -> None:
    """Weight 0.5 streams each row every second epoch, in one pass over the data set."""
    half = order(1, weights=(0.5,))
    assert half.rows_per_epoch == 8
    seen = []
    for epoch in range(2):
        found = assign(half, SHARDS[:1], epoch, 0, 1)
        assert {span.repeat for span in found.spans} == {0}
        seen += rows_of(found.spans)
    assert len(set(seen)) == len(seen) == 16


@pytest.mark.parametrize("rows", [0, 1, 100, 20_000])
def test_the_shuffle_buffer_is_bounded(rows: int) -> None:
    """A sequential reader holds at most SHUFFLE_BUFFER rows, yet rows move far."""
    alone = Order((rows,), (1.0,), 0, 10)
    found = shuffle(assign(alone, [[rows]], 0, 0, 1), 0, 0) if rows else np.zeros(0, int)
    assert sorted(found.tolist()) == list(range(rows))
    read_ahead = np.maximum.accumulate(found) + 1 - np.arange(1, rows + 1)
    assert read_ahead.max(initial=0) <= SHUFFLE_BUFFER
    if rows > SHUFFLE_BUFFER:
        assert np.abs(found - np.arange(rows)).mean() > SHUFFLE_BUFFER / 5
    assert (rows < 2) == (found.tolist() == list(range(rows)))
