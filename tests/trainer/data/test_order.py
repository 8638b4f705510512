"""The global order is the same for any number of ranks."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import numpy as np
import pytest

from fscdata.base.errors import FsckitError
from fsctrain.data.order import Order, check_weights


def rows_of(order: Order, steps: range) -> list[list[int]]:
    """The rows that the order's rank takes in each step."""
    found = []
    for step in steps:
        epoch, positions = order.positions(step)
        found.append(order.epoch(epoch)[0][positions.start : positions.stop].tolist())
    return found


@pytest.mark.parametrize("seed", [0, 7, 2**63 - 1])
def test_an_epoch_is_a_permutation(seed: int) -> None:
    """It comes from numpy's generator seeded with (seed, epoch)."""
    order = Order((10,), (1.0,), seed, 4)
    assert order.steps_per_epoch == 3
    for epoch in range(3):
        rows, repeats = order.epoch(epoch)
        assert rows.tolist() == np.random.default_rng([seed, epoch]).permutation(10).tolist()
        assert set(repeats.tolist()) == {epoch}
        steps = rows_of(order, range(3 * epoch, 3 * epoch + 3))
        assert steps == [rows[:4].tolist(), rows[4:8].tolist(), rows[8:].tolist()]


@pytest.mark.parametrize("ranks", [2, 3, 4, 7])
@pytest.mark.parametrize(("sizes", "weights"), [((23,), (1.0,)), ((9, 5), (1.0, 2.5))])
def test_ranks_share_each_global_batch(
    sizes: tuple[int, ...], weights: tuple[float, ...], ranks: int
) -> None:
    """The order stays the same, and ranks differ by at most a row, even in the last batch."""
    alone = Order(sizes, weights, 3, 6)
    steps = range(3 * alone.steps_per_epoch)
    parts = [rows_of(Order(sizes, weights, 3, 6, rank, ranks), steps) for rank in range(ranks)]
    joined = [[*chain.from_iterable(together)] for together in zip(*parts, strict=True)]
    assert joined == rows_of(alone, steps)
    assert all(
        max(map(len, together)) - min(map(len, together)) <= 1
        for together in zip(*parts, strict=True)
    )


def test_weights_set_how_often_a_row_is_seen() -> None:
    """Weight 0.5: every second epoch; 1: once; 2: twice per epoch."""
    order = Order((10, 6, 7), (0.5, 2.0, 1.0), 0, 4)
    assert order.rows_per_epoch == 5 + 12 + 7 and order.steps_per_epoch == 6
    epochs = [order.epoch(epoch) for epoch in range(4)]
    for first in (0, 2):
        two = Counter(np.concatenate([epochs[first][0], epochs[first + 1][0]]).tolist())
        assert two == {r: 1 if r < 10 else 4 if r < 16 else 2 for r in range(23)}
    for epoch, (rows, repeats) in enumerate(epochs):
        once = Counter(rows.tolist())
        assert all(once[row] == 2 for row in range(10, 16))
        assert all(once[row] == 1 for row in range(16, 23))
        seen = dict(zip(rows.tolist(), repeats.tolist(), strict=True))
        assert all(repeat == epoch // 2 for row, repeat in seen.items() if row < 10)
        assert set(repeats[(rows >= 10) & (rows < 16)].tolist()) == {2 * epoch, 2 * epoch + 1}
        assert set(repeats[rows >= 16].tolist()) == {epoch}
    assert epochs[0][0].tolist() != epochs[2][0].tolist()


def test_shuffles_data_sets_together() -> None:
    rows, _ = Order((500, 500), (1.0, 1.0), 0, 10).epoch(0)
    of_first = (rows.reshape(10, 100) < 500).sum(1)
    assert of_first.min() > 30 and of_first.max() < 70
    apart = np.where(rows < 500, rows, rows - 500)
    assert apart[rows < 500].tolist() != apart[rows >= 500].tolist()  # each set has its own order


def test_refuses_a_weight_that_selects_nothing() -> None:
    check_weights(("a", "b"), (1.0, 0.1), (3, 6))
    with pytest.raises(
        FsckitError, match=r"`data_weights` 0\.1 selects none of the 4 captions of b"
    ):
        check_weights(("a", "b"), (1.0, 0.1), (3, 4))
