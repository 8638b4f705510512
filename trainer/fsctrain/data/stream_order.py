"""Which rows of which tars a worker streams, and in what order.

The order depends on the numbers of ranks and workers; otherwise every worker would have to read
every tar.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fsctrain.data.order import Integers, Order

SHUFFLE_BUFFER = 1024  # rows; large enough to mix neighbours, small enough for a worker's memory


@dataclass(frozen=True)
class Span:
    """Rows start … stop − 1 of a shard, on pass number `repeat` over its data set."""

    shard: int
    start: int
    stop: int
    repeat: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Assignment:
    """What one worker of one rank reads in an epoch.

    Attributes:
        first: position of its first row in the epoch.
        spans: its rows, in reading order.
        steps: the run's steps whose batches it makes.
        counts: rows of each of these batches.
    """

    first: int
    spans: list[Span]
    steps: list[int]
    counts: list[int]


def assign(
    order: Order, shards: Sequence[Sequence[int]], epoch: int, worker: int, workers: int
) -> Assignment:
    """The part of an epoch that one worker of this rank reads: steps s with s mod workers = worker.

    An epoch's chain of rows joins its shards, permuted by (seed, epoch), each from first row to
    last; weights work as in `Order`. Each rank gets a contiguous part of the chain, as long as its
    parts of the epoch's global batches, and each worker a contiguous part of that. So each row is
    streamed once per epoch, all ranks take the same number of steps and no row is left over. A tar
    that spans a boundary is read by two workers.

    Args:
        order: sizes, weights, seed, batch size, rank and ranks.
        shards: rows of each data set's shards; shards are numbered consecutively.
        epoch: its number.
        worker, workers: the worker's number, and the number of workers of the rank.
    """
    steps = epoch * order.steps_per_epoch + np.arange(order.steps_per_epoch)
    rows = np.full(len(steps), order.batch_size)
    rows[-1] = order.rows_per_epoch - (len(steps) - 1) * order.batch_size
    begin, end = (rows * r // order.ranks for r in (order.rank, order.rank + 1))
    counts, worker_of_step = end - begin, steps % workers
    first = int(begin.sum() + counts[worker_of_step < worker].sum())
    mine = worker_of_step == worker
    chain = _epoch(order, shards, epoch)
    return Assignment(
        first,
        list(_slice(chain, first, first + int(counts[mine].sum()))),
        steps[mine].tolist(),
        counts[mine].tolist(),
    )


def shuffle(assignment: Assignment, seed: int, epoch: int) -> Integers:
    """A bounded shuffle: the index in reading order of each row of the batches.

    Each row draws a delay of up to SHUFFLE_BUFFER rows, and rows are sorted by index plus delay:
    a sequential reader never holds more than SHUFFLE_BUFFER rows that are not yet used.
    """
    rows = sum(assignment.counts)
    rng = np.random.default_rng([seed, epoch, assignment.first])
    delay = rng.random(rows) * SHUFFLE_BUFFER
    return np.argsort(np.arange(rows) + delay, kind="stable")


def _epoch(order: Order, shards: Sequence[Sequence[int]], epoch: int) -> list[Span]:
    """An epoch's spans, for all ranks and workers together."""
    spans: list[Span] = []
    first = 0
    for number, (size, count, rows) in enumerate(
        zip(order.sizes, order.counts, shards, strict=True)
    ):
        start = epoch * count
        for repeat in range(start // size, -(-(start + count) // size)):
            rng = np.random.default_rng([order.seed, repeat, number])
            permutation = rng.permutation(len(rows)).tolist()
            all_shards = [Span(first + i, 0, rows[i], repeat) for i in permutation]
            spans += _slice(all_shards, start - repeat * size, start + count - repeat * size)
        first += len(rows)
    if len(shards) > 1:
        rng = np.random.default_rng([order.seed, epoch, len(shards)])
        spans = [spans[i] for i in rng.permutation(len(spans))]
    return spans


def _slice(spans: Sequence[Span], start: int, stop: int) -> Iterator[Span]:
    """Rows start … stop − 1 of a chain of spans."""
    position = 0
    for span in spans:
        low, high = max(start - position, 0), min(stop - position, len(span))
        if low < high:
            yield Span(span.shard, span.start + low, span.start + high, span.repeat)
        position += len(span)
