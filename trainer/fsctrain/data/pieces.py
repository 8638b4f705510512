"""Which rows of which tars a worker streams, and in what order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fsctrain.data.order import Integers, Order

POOL = 1024  # rows among which a row's place is drawn


@dataclass(frozen=True)
class Piece:
    """Rows start … stop − 1 of shard `shard`, seen for the time number `turn`."""

    shard: int
    start: int
    stop: int
    turn: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Share:
    """What one worker of one rank makes of an epoch.

    Attributes:
        first: place of its first row in the epoch.
        pieces: where its rows lie, in the order of reading.
        steps: the steps whose batches it makes, of the run.
        counts: rows of each of these batches.
    """

    first: int
    pieces: list[Piece]
    steps: list[int]
    counts: list[int]


def share(
    order: Order, shards: Sequence[Sequence[int]], epoch: int, lane: int, lanes: int
) -> Share:
    """The part of an epoch that a rank makes in the steps that leave `lane` modulo `lanes`.

    An epoch's chain of rows goes through its shards, which are permuted by (seed, epoch), each from
    first to last; weights count as in `Order`. A rank gets one run of the chain, as long as its
    parts of the epoch's global batches are, and of this each lane one run. So each row is streamed
    once an epoch, all ranks take the same number of steps and nothing is left over; a tar on whose
    rows such a run begins or ends is read by two.

    Args:
        order: sizes, weights, seed, batch size, rank and ranks.
        shards: of each data set the rows of its shards; they are numbered throughout.
        epoch: its number.
        lane, lanes: a worker's number, and how many there are.
    """
    steps = epoch * order.steps_per_epoch + np.arange(order.steps_per_epoch)
    last = order.rows_per_epoch - (len(steps) - 1) * order.batch_size
    rows = np.full(len(steps), order.batch_size)
    rows[-1] = last
    before, upto = (rows * r // order.ranks for r in (order.rank, order.rank + 1))
    counts, lane_of = upto - before, steps % lanes
    first = int(before.sum() + counts[lane_of < lane].sum())
    ours = lane_of == lane
    chain = _epoch(order, shards, epoch)
    return Share(
        first,
        list(_cut(chain, first, first + int(counts[ours].sum()))),
        steps[ours].tolist(),
        counts[ours].tolist(),
    )


def mixed(share: Share, seed: int, epoch: int) -> Integers:
    """The places of a share's rows in the order of reading, in the order of its batches.

    Each row is drawn a delay of up to POOL rows, and the rows come by reading place plus delay:
    whoever reads from first to last never holds more than POOL rows that are not yet used.
    """
    rows = sum(share.counts)
    delay = np.random.default_rng([seed, epoch, share.first]).random(rows) * POOL
    return np.argsort(np.arange(rows) + delay, kind="stable")


def _epoch(order: Order, shards: Sequence[Sequence[int]], epoch: int) -> list[Piece]:
    """An epoch's pieces, all ranks and lanes together."""
    pieces: list[Piece] = []
    first = 0
    for number, (size, count, rows) in enumerate(
        zip(order.sizes, order.counts, shards, strict=True)
    ):
        start = epoch * count
        for turn in range(start // size, -(-(start + count) // size)):
            shuffled = np.random.default_rng([order.seed, turn, number]).permutation(len(rows))
            whole = [Piece(first + i, 0, rows[i], turn) for i in shuffled.tolist()]
            pieces += _cut(whole, start - turn * size, start + count - turn * size)
        first += len(rows)
    if len(shards) > 1:
        rng = np.random.default_rng([order.seed, epoch, len(shards)])
        pieces = [pieces[i] for i in rng.permutation(len(pieces))]
    return pieces


def _cut(pieces: Sequence[Piece], start: int, stop: int) -> Iterator[Piece]:
    """Rows start … stop − 1 of a chain of pieces."""
    place = 0
    for piece in pieces:
        low, high = max(start - place, 0), min(stop - place, len(piece))
        if low < high:
            yield Piece(piece.shard, piece.start + low, piece.start + high, piece.turn)
        place += len(piece)
