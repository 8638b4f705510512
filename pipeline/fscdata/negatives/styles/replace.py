"""Replacements as in SugarCrepe's REPLACE (Hsieh et al., 2023), FSC-CLIP and CLoVe.

An element of the caption's scene graph is replaced with an antonym or a cousin co-hyponym from
WordNet, drawn by WordNet's counts; a preposition with another one, drawn by its frequency in Google
Books. The published code draws up to two replacements for every element and then picks one of them
all. Here a draw first picks an element and whether it is its first or second replacement, and then
the replacement, which gives the same distribution. A replacement without the old word's form, such
as "furniture" for a plural, is drawn again, so such words are missing from the published support.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache, partial
from importlib.resources import files
from itertools import accumulate, chain
from typing import NamedTuple

import numpy as np

from fscdata.lexicon import PartOfSpeech, Strings, load_lexicon
from fscdata.negatives.draw import Draw, distinct
from fscdata.negatives.inflection import inflect, match_case
from fscdata.negatives.parse import Parse
from fscdata.negatives.scene_graph import Element, scene_graph
from fscdata.negatives.style import Caption, Edit, Negative, Style, no_argument

# Pronouns are not replaced, since WordNet has "it" as information technology and "he" as helium;
# they still count as entities.
_WORDNET_POS: dict[str, PartOfSpeech] = {
    "NOUN": "n",
    "PROPN": "n",
    "VERB": "v",
    "ADJ": "a",
    "ADV": "r",
}
_TRIES = 100  # draws of one replacement; half of the nouns have no plural
_OPERATORS = {kind: f"replace:{kind}" for kind in ("object", "attribute", "relation")}


class Replacements(NamedTuple):
    """An element's possible replacements in a fixed order, with running sums of their weights."""

    words: Strings | tuple[str, ...]
    relations: Strings | tuple[str, ...]
    cumulative: Sequence[int]

    def draw_two(self, draw: Draw, second: bool, usable: Callable[[int], bool]) -> int | None:
        """The index of the first draw, or of a second draw without replacement.

        Unusable replacements are drawn again; None if all of `_TRIES` draws are unusable.
        """
        cumulative = self.cumulative
        first = _first(usable, lambda: draw.weighted(cumulative))
        if not second or first is None:
            return first
        before = cumulative[first - 1] if first else 0
        weight = cumulative[first] - before

        def other() -> int:
            at = draw.below(cumulative[-1] - weight)
            # Skip the first draw's interval of the running sums.
            return bisect_right(cumulative, at if at < before else at + weight)

        return _first(usable, other)


def _first(usable: Callable[[int], bool], drawn: Callable[[], int]) -> int | None:
    return next((i for i in (drawn() for _ in range(_TRIES)) if usable(i)), None)


@cache
def _prepositions() -> tuple[tuple[str, int], ...]:
    lines = (files("fscdata.negatives") / "prepositions.tsv").read_text().splitlines()[1:]
    return tuple((word, int(n)) for word, n in (line.split("\t") for line in lines))


@lru_cache(maxsize=128)
def preposition_replacements(text: str) -> Replacements:
    """Every preposition except the given one, which is in lower case."""
    others = [(word, weight) for word, weight in _prepositions() if word != text]
    return Replacements(
        tuple(word for word, _ in others),
        ("preposition",) * len(others),
        tuple(accumulate(weight for _, weight in others)),
    )


@cache
def _spellings() -> tuple[str, ...]:
    """The lexicon's names as a caption spells them, with spaces."""
    return tuple(name.replace("_", " ") for name in load_lexicon().names)


@lru_cache(maxsize=4096)  # about 5 kB per word
def word_replacements(word: str, pos: PartOfSpeech) -> Replacements:
    """The antonyms and cousins of a lower-case word."""
    found = load_lexicon().replacements(word, pos)
    return Replacements(
        Strings(_spellings(), found.lemmas.numbers),
        found.relations,
        array("i", found.weights.cumsum().astype(np.intc).tobytes()),
    )


@lru_cache(maxsize=4096)
def is_phrasal_verb(verb: str, particle: str) -> bool:
    """Whether WordNet lists the two words as one verb."""
    lexicon = load_lexicon()
    return any(
        lexicon.contains(f"{base}_{particle.lower()}", "v")
        for base in lexicon.base_forms(verb, "v")
    )


def replaceable(parse: Parse) -> list[tuple[Element, Replacements]] | str:
    """The elements of a caption that have replacements, or the reason there are none."""
    graph = scene_graph(parse, is_phrasal_verb)
    if len(graph.entities) < 2:
        return "fewer than two entities"
    if not graph.modifiers and not graph.relations:
        return "no modifier and no relation"
    found = []
    for element in chain(*graph):
        root = element.root
        pos = parse.pos[root]
        if pos == "ADP":
            text = parse.text[parse.starts[element.start] : parse.end(element.end - 1)]
            found.append((element, preposition_replacements(text.lower())))
        elif pos in _WORDNET_POS:
            replacements = word_replacements(parse.words[root].lower(), _WORDNET_POS[pos])
            if replacements.words:
                if element.end - element.start > 1:  # only the root is replaced
                    element = Element(element.kind, root, root + 1, root)  # noqa: PLW2901
                found.append((element, replacements))
    return found or "no replacement known"


class Replace(Style):
    """One object, attribute or relation replaced by another."""

    name = "replace"
    version = 2
    libraries = ("lemminflect",)
    uses_lexicon = True

    def negatives(self, caption: Caption, draw: Draw, variants: int) -> list[Negative] | str:
        """See `Style.negatives`."""
        parse = caption.parse
        assert parse is not None
        found = replaceable(parse)
        if isinstance(found, str):
            return found
        places = [
            (element, replacements, second)
            for element, replacements in found
            for second in ((False, True) if len(replacements.words) > 1 else (False,))
        ]

        def one() -> Negative | None:
            element, replacements, second = places[draw.below(len(places))]
            tag = parse.tags[element.root]
            index = replacements.draw_two(draw, second, partial(_takes, replacements, tag))
            return None if index is None else _replace(parse, element, replacements, index)

        def everything() -> Iterator[Negative | None]:
            for element, replacements in found:
                tag = parse.tags[element.root]
                for index in range(len(replacements.words)):
                    if _takes(replacements, tag, index):
                        yield _replace(parse, element, replacements, index)

        return distinct(one, everything, variants) or "no replacement known"


def _form(replacements: Replacements, index: int, tag: str) -> str | None:
    word = replacements.words[index]
    return word if replacements.relations[index] == "preposition" else inflect(word, tag)


def _takes(replacements: Replacements, tag: str, index: int) -> bool:
    """Whether a replacement has a form for the tag."""
    return _form(replacements, index, tag) is not None


def _replace(
    parse: Parse, element: Element, replacements: Replacements, index: int
) -> Negative | None:
    """The caption with one element replaced, or None if that does not change it."""
    kind, first, end, root = element
    text = parse.text
    start, stop = parse.starts[first], parse.end(end - 1)
    old = text[start:stop]
    form = _form(replacements, index, parse.tags[root])
    assert form is not None
    new = match_case(form, old)
    if new == old:
        return None
    edit = Edit(start, stop, old, new)
    text = text[:start] + new + text[stop:]
    return Negative(text, _OPERATORS[kind], [edit], replacements.relations[index])


def create(argument: str | None) -> Style:
    """The style; it takes no argument."""
    no_argument(Replace.name, argument)
    return Replace()
