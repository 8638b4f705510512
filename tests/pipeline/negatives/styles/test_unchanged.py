"""The negatives of one caption by style; a change here needs a new version of the style."""

from __future__ import annotations

import pytest

from fscdata.negatives.draw import Draw
from fscdata.negatives.parse import Parse
from fscdata.negatives.style import Caption, create_style, seed_key

CAPTION = "Two young men are slowly riding a red bike near the old park ."
_TOKENS = """\
Two 0 CD NUM nummod 2
young 4 JJ ADJ amod 2
men 10 NNS NOUN nsubj 5
are 14 VBP AUX aux 5
slowly 18 RB ADV advmod 5
riding 25 VBG VERB ROOT 5
a 32 DT DET det 8
red 34 JJ ADJ amod 8
bike 38 NN NOUN dobj 5
near 43 IN ADP prep 5
the 48 DT DET det 12
old 52 JJ ADJ amod 12
park 56 NN NOUN pobj 9
. 61 . PUNCT punct 5"""
_WORDS, _STARTS, _TAGS, _POS, _DEPS, _HEADS = zip(
    *map(str.split, _TOKENS.splitlines()), strict=True
)
PARSE = Parse(
    text=CAPTION,
    words=list(_WORDS),
    starts=[int(start) for start in _STARTS],
    tags=list(_TAGS),
    pos=list(_POS),
    deps=list(_DEPS),
    heads=[int(head) for head in _HEADS],
    chunks=[(0, 3, 2), (6, 9, 8), (10, 13, 12)],
)
EXPECTED = {
    "negclip": [
        "the old park are slowly riding a red bike near Two young men .",
        "Two young men are slowly riding a old bike near the red park .",
        "Two old men are slowly riding a red bike near the young park .",
    ],
    "replace": [
        "Two vulnerable men are slowly riding a red bike near the old park .",
        "Two young men are slowly stamping a red bike near the old park .",
        "Two young men are slowly riding a black bike near the old park .",
    ],
    "shuffle-2": [
        "Two young bike near a red the old men are slowly riding park.",
        "men are Two young park. slowly riding bike near a red the old",
        "park. bike near a red men are slowly riding the old Two young",
    ],
    "shuffle-3": [
        "a red bike near the old are slowly riding park. Two young men",
        "near the old a red bike are slowly riding park. Two young men",
        "Two young men near the old park. are slowly riding a red bike",
    ],
    "svlc": [
        "Two young men are slowly riding a red bike near the dry park .",
        "Two young men are slowly reading a red bike near the old park .",
        "Two young men are slowly riding a lavender bike near the old park .",
    ],
}


VERSIONS = {"replace": 2}  # the others: 1


@pytest.mark.parametrize("name", EXPECTED)
def test_a_version_is_unchanged(name: str) -> None:
    style = create_style(name)
    assert style.version == VERSIONS.get(name, 1)
    key = seed_key(0, style)
    key.update(CAPTION.encode())
    found = style.negatives(Caption(CAPTION, PARSE), Draw(key), 3)
    assert [negative.text for negative in found] == EXPECTED[name]
