"""Which caption comes when: one global order, a function of the seed and the epoch alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fscdata.base.errors import FsckitError

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Order:
    """The order of a run's rows, and who takes which of them.

    An epoch has round(weight · rows) rows of each data set, taken in turn from the endless chain of
    that set's own permutations: with weight 1 every caption once, with 0.5 every second epoch, with
    2 twice an epoch. The rows of several data sets are then shuffled together.

    Global batch s of an epoch has its rows [s·B, (s + 1)·B); an epoch's last one may be smaller.
    Of a global batch of n rows rank r of W takes the rows [n·r // W, n·(r + 1) // W): all ranks
    take the same number of steps, and of a batch with fewer rows than ranks some take none.

    Attributes:
        sizes: rows of each data set; they are numbered one data set after the other.
        weights: how often a row of each is seen in an epoch.
        seed: of the permutations.
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
        """Rows of each data set in an epoch."""
        return [round(w * size) for w, size in zip(self.weights, self.sizes, strict=True)]

    @property
    def rows_per_epoch(self) -> int:
        return sum(self.counts)

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.rows_per_epoch // self.batch_size)

    def places(self, step: int) -> tuple[int, range]:
        """The epoch of a step, and this rank's places in the epoch's order."""
        epoch, number = divmod(step, self.steps_per_epoch)
        start = number * self.batch_size
        rows = min(self.batch_size, self.rows_per_epoch - start)
        first, stop = (rows * rank // self.ranks for rank in (self.rank, self.rank + 1))
        return epoch, range(start + first, start + stop)

    def epoch(self, epoch: int) -> tuple[Integers, Integers]:
        """The epoch's rows, and for each the number of times that its data set was gone through
        before; it is the epoch's number where the weight is 1.
        """
        return _epoch(self.sizes, tuple(self.counts), self.seed, epoch)


def check_weights(
    folders: tuple[str, ...], weights: tuple[float, ...], sizes: tuple[int, ...]
) -> None:
    """Raises FsckitError where a data set's weight leaves it without a single row an epoch."""
    for folder, weight, size in zip(folders, weights, sizes, strict=True):
        if round(weight * size) < 1:
            raise FsckitError(
                f"--data-weights {weight:g}: takes none of the {size:,} captions of {folder} in an "
                f"epoch; give it more, or leave the data set out"
            )


# A worker asks for one epoch, and at its end for the next.
@lru_cache(maxsize=1)
def _epoch(
    sizes: tuple[int, ...], counts: tuple[int, ...], seed: int, epoch: int
) -> tuple[Integers, Integers]:
    rows, passes = [], []
    first = 0
    for number, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        start = epoch * count
        for turn in range(start // size, -(-(start + count) // size)):
            cut = slice(max(start - turn * size, 0), start + count - turn * size)
            # numpy pads a seed with zeros: the first data set's is [seed, turn].
            part = np.random.default_rng([seed, turn, number]).permutation(size)[cut]
            rows.append(part + first)
            passes.append(np.full(len(part), turn))
        first += size
    of_epoch, of_passes = np.concatenate(rows), np.concatenate(passes)
    if len(sizes) > 1:
        mixed = np.random.default_rng([seed, epoch, len(sizes)]).permutation(len(of_epoch))
        of_epoch, of_passes = of_epoch[mixed], of_passes[mixed]
    return of_epoch, of_passes
