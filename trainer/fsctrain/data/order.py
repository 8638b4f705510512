"""The order of the captions: one global order, which depends only on the seed and the epoch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fscdata.base.errors import FsckitError

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Order:
    """The order of a run's rows, and each rank's part of it.

    An epoch has round(weight · rows) rows of each data set, taken in turn from an endless chain of
    that set's permutations: weight 1 takes each caption once per epoch, 0.5 every second epoch, 2
    twice per epoch. The rows of several data sets are then shuffled together.

    Global batch s of an epoch has rows [s·B, (s + 1)·B); the last one may be smaller. From a batch
    of n rows, rank r of W takes rows [n·r // W, n·(r + 1) // W). So the global batches do not
    depend on W, and all ranks take the same number of steps; if a batch has fewer rows than ranks,
    some ranks take no rows.

    Attributes:
        sizes: rows of each data set; rows are numbered consecutively.
        weights: how often a row of each is seen per epoch.
        seed: seed of the permutations.
        batch_size: B, over all ranks.
        rank, ranks: r and W.
    """

    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    seed: int
    batch_size: int
    rank: int = 0
    ranks: int = 1

    @property
    def counts(self) -> list[int]:
        """Rows of each data set per epoch."""
        return [round(w * size) for w, size in zip(self.weights, self.sizes, strict=True)]

    @property
    def rows_per_epoch(self) -> int:
        return sum(self.counts)

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.rows_per_epoch // self.batch_size)

    def positions(self, step: int) -> tuple[int, range]:
        """The epoch of a step, and this rank's positions in the epoch's order."""
        epoch, number = divmod(step, self.steps_per_epoch)
        start = number * self.batch_size
        rows = min(self.batch_size, self.rows_per_epoch - start)
        first, stop = (rows * rank // self.ranks for rank in (self.rank, self.rank + 1))
        return epoch, range(start + first, start + stop)

    def epoch(self, epoch: int) -> tuple[Integers, Integers]:
        """The epoch's rows and, for each, the number of earlier passes over its data set, which
        equals the epoch's number if the weight is 1.
        """
        return _epoch(self.sizes, tuple(self.counts), self.seed, epoch)


def check_weights(
    folders: tuple[str, ...], weights: tuple[float, ...], sizes: tuple[int, ...]
) -> None:
    """Raise FsckitError if a data set's weight selects none of its rows."""
    for folder, weight, size in zip(folders, weights, sizes, strict=True):
        if round(weight * size) < 1:
            raise FsckitError(
                f"`data_weights` {weight:g} selects none of the {size:,} captions of {folder} in "
                f"an epoch; increase the weight, or remove the data set"
            )


# One entry is enough: a worker moves from one epoch to the next.
@lru_cache(maxsize=1)
def _epoch(
    sizes: tuple[int, ...], counts: tuple[int, ...], seed: int, epoch: int
) -> tuple[Integers, Integers]:
    rows, repeats = [], []
    first = 0
    for number, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        start = epoch * count
        for repeat in range(start // size, -(-(start + count) // size)):
            part = slice(max(start - repeat * size, 0), start + count - repeat * size)
            # numpy pads a seed with zeros: the first data set's is [seed, repeat].
            rng = np.random.default_rng([seed, repeat, number])
            permutation = rng.permutation(size)[part]
            rows.append(permutation + first)
            repeats.append(np.full(len(permutation), repeat))
        first += size
    all_rows, all_repeats = np.concatenate(rows), np.concatenate(repeats)
    if len(sizes) > 1:
        shuffle = np.random.default_rng([seed, epoch, len(sizes)]).permutation(len(all_rows))
        all_rows, all_repeats = all_rows[shuffle], all_repeats[shuffle]
    return all_rows, all_repeats
