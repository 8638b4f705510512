"""Rule-based replacements (SVLC: Doveh et al., CVPR 2023): one word for another of its class.

The eight classes are the published ones. The word lists are our own, from image captions. The
actions exclude prepositions: "skating a table" for "on a table" is not a caption.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.resources import files
from itertools import product

from fscdata.negatives.draw import Draw, distinct
from fscdata.negatives.parse import Parse
from fscdata.negatives.style import Caption, Edit, Negative, Style, apply_edits, no_argument


@cache
def word_classes() -> dict[str, list[str]]:
    """The words of each class."""
    classes: dict[str, list[str]] = json.loads(
        (files("fscdata.negatives") / "svlc_words.json").read_text()
    )
    return classes


@lru_cache(maxsize=2**14)
def _classes_of(word: str) -> tuple[str, ...]:
    return tuple(name for name, words in word_classes().items() if word in words)


class Svlc(Style):
    """Draws a class with words in the caption, one of those words, and its replacement."""

    name = "svlc"
    version = 1

    def negatives(self, caption: Caption, draw: Draw, variants: int) -> list[Negative] | str:
        """See `Style.negatives`."""
        parse = caption.parse
        assert parse is not None
        present: dict[str, list[str]] = {}
        for word in parse.words:
            for name in _classes_of(word):
                present.setdefault(name, []).append(word)
        if not present:
            return "no word of any class"
        names = [name for name in word_classes() if name in present]
        others = {
            name: [w for w in word_classes()[name] if w not in present[name]] for name in names
        }
        names = [name for name in names if others[name]]

        def one() -> Negative:
            name = names[draw.below(len(names))]
            old = present[name][draw.below(len(present[name]))]
            return _replace(parse, name, old, others[name][draw.below(len(others[name]))])

        def everything() -> Iterator[Negative]:
            for name in names:
                for old, new in product(dict.fromkeys(present[name]), others[name]):
                    yield _replace(parse, name, old, new)

        if not names:
            return "every word of its classes is in the caption"
        return distinct(one, everything, variants)


def _replace(parse: Parse, name: str, old: str, new: str) -> Negative:
    """The caption with every occurrence of the word replaced."""
    edits = [
        Edit(parse.starts[i], parse.end(i), old, new)
        for i, word in enumerate(parse.words)
        if word == old
    ]
    return Negative(apply_edits(parse.text, edits), f"svlc:{name}", edits)


def create(argument: str | None) -> Style:
    """The style; it takes no argument."""
    no_argument(Svlc.name, argument)
    return Svlc()
