"""Random draws that depend only on a key, not on the machine, the order or a library.

All arithmetic is on integers, since sums of floats could differ between machines. Seeding one of
numpy's generators takes longer than making a negative.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class _HasText(Protocol):
    @property
    def text(self) -> str: ...


Text = TypeVar("Text", bound=_HasText)
_MASK = 2**64 - 1
_GAMMA, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_AHEAD = 32  # outputs made in advance, enough for most captions
_SUSPICIOUS, _REJECTIONS = 4, 50  # consecutive rejected draws


class Draw:
    """A splitmix64 generator (Steele, Lea and Flood, 2014)."""

    __slots__ = ("_ahead", "_state")

    def __init__(self, key: hashlib.blake2b) -> None:
        self._state = int.from_bytes(key.digest()[:8], "little")
        self._ahead: list[int] = []  # outputs made in advance by `draws`, the next one last

    def below(self, n: int) -> int:
        """An integer in [0, n) for n up to about 2^32 (the bias is below n / 2^64)."""
        return ((self._ahead.pop() if self._ahead else self._next()) * n) >> 64

    def _next(self) -> int:
        self._state = z = (self._state + _GAMMA) & _MASK
        z = ((z ^ (z >> 30)) * _FIRST) & _MASK
        z = ((z ^ (z >> 27)) * _SECOND) & _MASK
        return z ^ (z >> 31)

    def weighted(self, cumulative: Sequence[int]) -> int:
        """An index drawn by integer weights, whose running sums are `cumulative`."""
        return bisect_right(cumulative, self.below(cumulative[-1]))

    def shuffle(self, items: list[T]) -> None:
        """Permute a list in place, uniformly (Fisher and Yates)."""
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]


def draws(keys: Sequence[hashlib.blake2b]) -> Iterator[Draw]:
    """`Draw(key)` for every key; the first outputs of all keys are made together."""
    made = [Draw(key) for key in keys]
    steps = np.arange(_AHEAD, 0, -1, dtype=np.uint64) * np.uint64(_GAMMA)
    states = np.array([draw._state for draw in made], np.uint64)
    z: NDArray[np.uint64] = states[:, None] + steps  # wraps around, as in splitmix64
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_FIRST)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_SECOND)
    z ^= z >> np.uint64(31)
    for draw, ahead in zip(made, z.tolist(), strict=True):
        draw._ahead = ahead
        draw._state += _AHEAD * _GAMMA
        yield draw


def distinct(
    one: Callable[[], Text | None],
    everything: Callable[[], Iterator[Text | None]] | None,
    count: int,
) -> list[Text]:
    """Up to `count` draws with different texts: draws without replacement.

    Args:
        one: draws from the style's distribution; None is an unusable draw. A repeated text is
            drawn again.
        everything: lists all candidates in a fixed order. After too many rejected draws the
            remaining candidates follow in this order, so that none is missed. None if there are
            too many to list.
        count: maximum number of draws.
    """
    drawn: dict[str, Text] = {}

    def remaining() -> Iterator[Text]:
        for item in everything() if everything else ():
            if item is not None and item.text not in drawn:
                yield item

    rejected = 0
    while len(drawn) < count and rejected < _REJECTIONS:
        item = one()
        if item is not None and item.text not in drawn:
            drawn[item.text] = item
            rejected = 0
            continue
        rejected += 1
        if rejected == _SUSPICIOUS and everything and next(remaining(), None) is None:
            break  # every candidate has been drawn
    for item in islice(remaining(), count - len(drawn)):
        drawn[item.text] = item
    return list(drawn.values())
