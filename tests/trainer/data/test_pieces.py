"""Which rows a worker streams: all of them, once, in as many steps on every rank."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from fsctrain.data.order import Order
from fsctrain.data.pieces import POOL, Piece, mixed, share

SHARDS = [[5, 9, 3], [4, 6]]  # rows of each data set's shards


def order(sets: int, rank: int = 0, ranks: int = 1, weights: tuple[float, ...] = (1.0, 2.0)):
    sizes = tuple(sum(rows) for rows in SHARDS[:sets])
    return Order(sizes, weights[:sets], 3, 4, rank, ranks)


def rows_of(pieces: list[Piece]) -> list[tuple[int, int]]:
    return [(piece.shard, row) for piece in pieces for row in range(piece.start, piece.stop)]


@pytest.mark.parametrize("sets", [1, 2])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_every_row_once_an_epoch(sets: int, ranks: int, lanes: int) -> None:
    """Fewer shards than workers; each step once on every rank, as long as in the indexed order."""
    for epoch in range(3):
        seen: Counter[tuple[int, int]] = Counter()
        firsts = []
        for rank in range(ranks):
            of_rank = order(sets, rank, ranks)
            counts = {}
            for lane in range(lanes):
                found = share(of_rank, SHARDS[:sets], epoch, lane, lanes)
                rows = rows_of(found.pieces)
                assert len(rows) == sum(found.counts)
                assert {step % lanes for step in found.steps} <= {lane}
                seen.update(rows)
                firsts += range(found.first, found.first + len(rows))
                counts |= dict(zip(found.steps, found.counts, strict=True))
            per_epoch = of_rank.steps_per_epoch
            steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
            assert counts == {step: len(of_rank.places(step)[1]) for step in steps}
        assert firsts == list(range(order(sets).rows_per_epoch))  # the crops' places
        expected = {(s, row): 1 for s in range(3) for row in range(SHARDS[0][s])}
        if sets == 2:
            expected |= {(3 + s, row): 2 for s in range(2) for row in range(SHARDS[1][s])}
        assert seen == expected


def test_shards_in_another_order_every_epoch() -> None:
    rows = [[10] * 20]
    alone = Order((200,), (1.0,), 0, 10)
    epochs = [[p.shard for p in share(alone, rows, epoch, 0, 1).pieces] for epoch in range(3)]
    assert all(sorted(shards) == list(range(20)) for shards in epochs)
    assert epochs[0] != epochs[1] != epochs[2] and epochs[0] != sorted(epochs[0])
    other = Order((200,), (1.0,), 1, 10)
    assert [p.shard for p in share(other, rows, 0, 0, 1).pieces] != epochs[0]


def test_half_a_weight_goes_on_where_it_stopped() -> None:
    """Each row every second epoch, and its turn counts how often its set was gone through."""
    half = order(1, weights=(0.5,))
    assert half.rows_per_epoch == 8
    seen = []
    for epoch in range(2):
        found = share(half, SHARDS[:1], epoch, 0, 1)
        assert {piece.turn for piece in found.pieces} == {0}
        seen += rows_of(found.pieces)
    assert len(set(seen)) == len(seen) == 16


@pytest.mark.parametrize("rows", [0, 1, 100, 20_000])
def test_a_bounded_pool_mixes(rows: int) -> None:
    """Whoever reads in sequence holds at most POOL rows, and rows end far from where they began."""
    alone = Order((rows,), (1.0,), 0, 10)
    found = mixed(share(alone, [[rows]], 0, 0, 1), 0, 0) if rows else np.zeros(0, int)
    assert sorted(found.tolist()) == list(range(rows))
    read_ahead = np.maximum.accumulate(found) + 1 - np.arange(1, rows + 1)
    assert read_ahead.max(initial=0) <= POOL
    if rows > POOL:
        assert np.abs(found - np.arange(rows)).mean() > POOL / 5
    assert (rows < 2) == (found.tolist() == list(range(rows)))
