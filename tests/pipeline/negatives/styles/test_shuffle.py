"""Shuffles: every order except the caption's own, compared as tokens."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fscdata.negatives.draw import Draw
from fscdata.negatives.parse import Parse
from fscdata.negatives.parsing import load_parser
from fscdata.negatives.style import Caption, apply_edits, create_style, seed_key
from fscdata.negatives.styles.shuffle import changed_part


def shuffles(caption: str, parse: Parse, n: int, variants: int) -> list[str] | str:
    style = create_style(f"shuffle-{n}")
    key = seed_key(0, style)
    key.update(caption.encode())
    found = style.negatives(Caption(caption, parse), Draw(key), variants)
    if isinstance(found, str):
        return found
    for negative in found:
        assert negative.operator == f"shuffle:{n}"
        assert apply_edits(caption, negative.edits) == negative.text
    return [negative.text for negative in found]


def parsed(caption: str) -> Parse:
    return next(load_parser().parse([caption]))


def join(tokens: list[tuple[str, str]]) -> str:
    text = ""
    for i, (word, pos) in enumerate(tokens):
        text += word if i == 0 or pos == "PUNCT" else f" {word}"
    return text


def slow_shuffles(parse: Parse, n: int) -> set[str]:
    """Every text that the rules allow, from all orders."""
    tokens = [t for t in zip(parse.words, parse.pos, strict=True) if t[1] != "SPACE"]
    grams = [tokens[i : i + n] for i in range(0, len(tokens), n)]
    last = grams.pop() if len(grams[-1]) == 1 and grams[-1][0][1] == "PUNCT" else None
    if len(grams) < 2:
        return set()

    def words(seq: list[tuple[str, str]]) -> list[str]:
        edges = (0, len(seq) - 1)
        return [w for i, (w, pos) in enumerate(seq) if not (i in edges and pos == "PUNCT")]

    found = set()
    for order in permutations(grams):
        for place in range(len(grams) + 1 if last else 1):
            placed = [list(g) for g in order]
            if last and place == 0:
                placed.insert(0, last)
            elif last:
                placed[place - 1] += last
            flat = [t for g in placed for t in g]
            if words(flat) != words(tokens):
                found.add(" ".join(join(g) for g in placed))
    return found


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_finds_every_order(captions: list[str], n: int) -> None:
    checked = 0
    for caption, parse in zip(captions, load_parser().parse(captions), strict=True):
        if len(parse.words) > 5 * n:
            continue
        expected = slow_shuffles(parse, n)
        if len(expected) > 400:
            continue
        found = shuffles(caption, parse, n, 500)
        assert set(found if isinstance(found, list) else []) == expected, caption
        checked += 1
    assert checked > 3


def test_keeps_the_words(captions: list[str]) -> None:
    for caption, parse in zip(captions, load_parser().parse(captions), strict=True):
        found = shuffles(caption, parse, 2, 3)
        for text in found if isinstance(found, list) else []:
            letters = sorted(c for c in text if not c.isspace())
            assert letters == sorted(c for c in caption if not c.isspace())


@given(st.text("ab \t\n", max_size=12), st.text("ab \t\n", max_size=12))
def test_changed_part_is_the_fewest_words(old: str, new: str) -> None:
    edit = changed_part(old, new)
    assert apply_edits(old, [edit]) == new
    assert edit.old == old[edit.start : edit.end]
    before, behind = old[: edit.start], old[edit.end :]
    assert not before or before[-1].isspace()
    assert not behind or behind[0].isspace()
    # A longer common prefix would not end in white space.
    longer = range(edit.start + 1, min(len(old), len(new)) + 1)
    assert not any(old[:i] == new[:i] and old[i - 1].isspace() for i in longer)


def test_reasons() -> None:
    assert shuffles("dog", parsed("dog"), 1, 5) == "fewer than two n-grams"
    same = "dogs dogs dogs dogs dogs dogs dogs dogs"
    assert shuffles(same, parsed(same), 2, 5) == "every order reads like the caption"


@pytest.mark.parametrize("name", ["shuffle", "shuffle-0", "shuffle-6", "shuffle-x"])
def test_a_wrong_length_is_rejected(name: str) -> None:
    with pytest.raises(ValueError, match="shuffle-1 … shuffle-5"):
        create_style(name)
