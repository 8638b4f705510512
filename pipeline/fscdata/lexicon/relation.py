"""Variable-length rows of numbers, stored in two arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fscdata.lexicon.table import view

Numbers = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False, slots=True)
class Relation:
    """Row i is related to `targets[starts[i]:starts[i + 1]]`."""

    starts: Numbers
    targets: Numbers

    @classmethod
    def from_arrow(cls, rows: pa.ListArray) -> Relation:
        return cls(view(rows.offsets), view(rows.flatten()))

    def positions(self, rows: Numbers) -> Numbers:
        """The positions in `targets` of the given rows, row by row."""
        starts = self.starts[rows].astype(np.int64)
        lengths = self.starts[rows + 1] - starts
        shifts = starts - (np.cumsum(lengths) - lengths)
        positions: Numbers = np.arange(lengths.sum()) + np.repeat(shifts, lengths)
        return positions

    def of(self, rows: Numbers) -> Numbers:
        """The distinct targets of the given rows, ascending."""
        return np.unique(self.targets[self.positions(rows)])

    def row_of(self, positions: Numbers) -> Numbers:
        """The rows that contain these positions of `targets`."""
        return np.searchsorted(self.starts, positions, side="right") - 1

    def inverse(self) -> Relation:
        """The relation from target to row, if both index the same things."""
        n = len(self.starts) - 1
        order = np.argsort(self.targets, kind="stable")
        sources = np.repeat(np.arange(n, dtype=np.int32), np.diff(self.starts))[order]
        lengths = np.bincount(self.targets, minlength=n)
        return Relation(np.append(0, np.cumsum(lengths)).astype(np.int32), sources)
