"""Random draws that depend on a key and on nothing else: not on machine, order or library."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
_MASK = 2**64 - 1
_REJECTIONS = 50


class Draw:
    """A splitmix64 generator (Steele, Lea and Flood, 2014); integer arithmetic alone."""

    def __init__(self, key: hashlib.blake2b) -> None:
        self._state = int.from_bytes(key.digest()[:8], "little")

    def below(self, n: int) -> int:
        """An integer in [0, n), n from 1 to 2^32 or so (the bias is below n / 2^64)."""
        self._state = z = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return ((z ^ (z >> 31)) * n) >> 64

    def weighted(self, cumulative: Sequence[int]) -> int:
        """An index, likely as its integer weight; `cumulative` are the running sums."""
        return bisect_right(cumulative, self.below(cumulative[-1]))

    def shuffle(self, items: list[T]) -> None:
        """Permute a list in place, all orders alike (Fisher and Yates)."""
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]


def distinct(
    one: Callable[[], T],
    everything: Callable[[], Iterator[T]],
    text: Callable[[T], str],
    unwanted: str,
    count: int,
) -> list[T]:
    """Up to `count` draws with different texts, none of them `unwanted`.

    `one` draws from the style's distribution; a repeated text is drawn again, which is a draw
    without replacement. Where that is in vain too often, `everything` lists the candidates in a
    fixed order and those not drawn yet follow in it, so that none is missed.
    """
    drawn: dict[str, T] = {}
    rejected = 0
    while len(drawn) < count and rejected < _REJECTIONS:
        item = one()
        if text(item) in drawn or text(item) == unwanted:
            rejected += 1
        else:
            drawn[text(item)] = item
            rejected = 0
    if len(drawn) < count:
        for item in everything():
            if text(item) != unwanted:
                drawn.setdefault(text(item), item)
            if len(drawn) == count:
                break
    return list(drawn.values())
