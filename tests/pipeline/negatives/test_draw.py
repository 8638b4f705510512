"""Draws never change, are fair, and do not repeat."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import NamedTuple

from fscdata.negatives.draw import Draw, distinct, draws


def draw(key: str = "key") -> Draw:
    return Draw(hashlib.blake2b(key.encode(), digest_size=8))


def test_outputs_never_change() -> None:
    generator = draw()
    assert [generator.below(1000) for _ in range(5)] == [181, 801, 121, 860, 632]


def test_below_and_weighted_are_fair() -> None:
    generator = draw()
    counts = Counter(generator.weighted([1, 3, 3, 10]) for _ in range(20_000))
    assert 0.08 < counts[0] / 20_000 < 0.12
    assert 0.18 < counts[1] / 20_000 < 0.22
    assert counts[2] == 0
    assert 0.67 < counts[3] / 20_000 < 0.73


def test_shuffle_is_uniform() -> None:
    generator = draw()
    counts: Counter[tuple[int, ...]] = Counter()
    for _ in range(6_000):
        items = [1, 2, 3]
        generator.shuffle(items)
        counts[tuple(items)] += 1
    assert len(counts) == 6
    assert all(850 < n < 1150 for n in counts.values())


def test_draws_in_advance_equal_single_draws() -> None:
    keys = [hashlib.blake2b(str(i).encode(), digest_size=8) for i in range(100)]
    for key, generator in zip(keys, draws(keys), strict=True):
        alone = Draw(key)
        bounds = [2 ** (i % 33) for i in range(100)]
        assert [generator.below(n) for n in bounds] == [alone.below(n) for n in bounds]
    assert list(draws([])) == []


class Item(NamedTuple):
    text: str


def items(*texts: str) -> list[Item | None]:
    return [None, *(Item(text) for text in texts)]


def test_distinct_finds_every_candidate() -> None:
    generator = draw()
    # "a" is drawn almost always; the others must be found too.
    there = items("a", "b", "c")
    sums = [2 * 10**9, 10**12, 10**12 + 1, 10**12 + 2]
    one = lambda: there[generator.weighted(sums)]  # noqa: E731
    found = [item.text for item in distinct(one, lambda: iter(there), 10)]
    assert found[0] == "a"
    assert sorted(found) == ["a", "b", "c"]


def test_distinct_stops_when_all_are_drawn() -> None:
    drawn = []
    there = items("a")

    def one() -> Item | None:
        drawn.append(1)
        return there[1]

    assert distinct(one, lambda: iter(there), 2) == [Item("a")]
    few = len(drawn)
    assert distinct(one, None, 2) == [Item("a")]
    assert len(drawn) > 5 * few, "without a list, draws continue for longer"


def test_distinct_continues_while_candidates_remain() -> None:
    there = iter([*items("a"), *[Item("a")] * 20, Item("c")])
    listed = items("a", "b", "c")
    found = distinct(lambda: next(there), lambda: iter(listed), 2)
    assert found == [Item("a"), Item("c")]
