"""A tiny WordNet folder, written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

HEADER = "  1 WordNet 3.0 Copyright 2006 by Princeton University.  All rights reserved.\n"

# offset, lexicographer file, part of speech, lemmas with lex_ids, pointers.
TINY = {
    "data.noun": [
        "00000001 03 n 01 thing 0 002 ~ 00000002 n 0000 ~ 00000003 n 0000 | all there is",
        "00000002 05 n 01 animal 0 003 @ 00000001 n 0000 ~ 00000004 n 0000 ~ 00000005 n 0000 | x",
        "00000003 20 n 01 plant 0 002 @ 00000001 n 0000 ~ 00000006 n 0000 | it grows",
        "00000004 05 n 02 dog 0 domestic_dog 0 001 @ 00000002 n 0000 | it barks",
        "00000005 05 n 01 cat 0 001 @ 00000002 n 0000 | it does not",
        "00000006 20 n 02 Rose 1 rose 0 001 @ 00000003 n 0000 | red, often",
    ],
    "data.verb": ["00000001 30 v 01 look_at 0 000 01 + 08 00 | see"],
    "data.adj": [
        "00000001 00 a 01 hot 0 002 ! 00000002 a 0101 & 00000003 s 0000 | warm",
        "00000002 00 a 01 cold(p) 0 001 ! 00000001 a 0101 | not warm",
        "00000003 00 s 01 torrid 0 001 & 00000001 a 0000 | very hot",
    ],
    "data.adv": ["00000001 02 r 01 well 0 000 | in a good way"],
    "index.noun": [
        "animal n 1 2 @ ~ 1 0 00000002",
        "cat n 1 1 @ 1 1 00000005",
        "dog n 1 1 @ 1 1 00000004",
        "domestic_dog n 1 1 @ 1 0 00000004",
        "plant n 1 2 @ ~ 1 0 00000003",
        "rose n 1 1 @ 1 1 00000006",
        "thing n 1 1 ~ 1 0 00000001",
    ],
    "index.verb": ["look_at v 1 0 1 0 00000001"],
    "index.adj": [
        "cold a 1 1 ! 1 0 00000002",
        "hot a 1 2 ! & 1 0 00000001",
        "torrid a 1 1 & 1 0 00000003",
    ],
    "index.adv": ["well r 1 0 1 0 00000001"],
    "index.sense": [
        "cat%1:05:00:: 00000005 1 7",
        "cold%3:00:00:: 00000002 1 4",
        "dog%1:05:00:: 00000004 1 42",
        "rose%1:20:00:: 00000006 1 3",
        "torrid%5:00:00:hot:00 00000003 1 2",
    ],
    "noun.exc": ["rosae rose"],
    "verb.exc": [],
    "adj.exc": ["hottest hot"],
    "adv.exc": ["better well"],
}


@pytest.fixture
def tiny_wordnet(tmp_path: Path) -> Path:
    """A folder in WordNet's format with 11 synsets."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    for name, lines in TINY.items():
        header = HEADER if name.startswith(("data", "index")) and name != "index.sense" else ""
        (folder / name).write_text(header + "".join(f"{line}  \n" for line in lines))
    return folder
