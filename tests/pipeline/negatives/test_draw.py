"""Draws: fixed for ever, fair, and without replacement."""

from __future__ import annotations

import hashlib
from collections import Counter

from fscdata.negatives.draw import Draw, distinct


def draw(key: str = "key") -> Draw:
    return Draw(hashlib.blake2b(key.encode(), digest_size=8))


def test_is_fixed_for_ever() -> None:
    generator = draw()
    assert [generator.below(1000) for _ in range(5)] == [181, 801, 121, 860, 632]


def test_below_and_weighted_are_fair() -> None:
    generator = draw()
    counts = Counter(generator.weighted([1, 3, 3, 10]) for _ in range(20_000))
    assert 0.08 < counts[0] / 20_000 < 0.12
    assert 0.18 < counts[1] / 20_000 < 0.22
    assert counts[2] == 0
    assert 0.67 < counts[3] / 20_000 < 0.73


def test_shuffle_gives_every_order_alike() -> None:
    generator = draw()
    counts: Counter[tuple[int, ...]] = Counter()
    for _ in range(6_000):
        items = [1, 2, 3]
        generator.shuffle(items)
        counts[tuple(items)] += 1
    assert len(counts) == 6
    assert all(850 < n < 1150 for n in counts.values())


def test_distinct_finds_all_there_are_and_no_more() -> None:
    generator = draw()
    # "a" comes almost always; the others are found all the same, "unwanted" never.
    items = ["a", "b", "c", "unwanted"]
    one = lambda: items[generator.weighted([10**9, 10**9 + 1, 10**9 + 2, 2 * 10**9])]  # noqa: E731
    found = distinct(one, lambda: iter(items), str, "unwanted", 10)
    assert found[0] == "a"
    assert sorted(found) == ["a", "b", "c"]
