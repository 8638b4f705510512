"""Replacements as in SugarCrepe's REPLACE (Hsieh et al., 2023), made as FSC-CLIP and CLoVe do.

An element of the caption's scene graph gives way to an antonym or a cousin co-hyponym of WordNet,
weighted by WordNet's counts, or a preposition to another, weighted by its frequency in Google
Books. The published code draws up to two replacements of every element and then one of them all;
a draw here picks one of those places first and then does as it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from itertools import accumulate

from fscdata.lexicon import PartOfSpeech, load_lexicon
from fscdata.negatives.draw import Draw, distinct
from fscdata.negatives.inflection import inflect, match_case
from fscdata.negatives.parse import Parse
from fscdata.negatives.scene_graph import Element, scene_graph
from fscdata.negatives.style import Caption, Edit, Negative, Style, apply_edits, no_argument

# Pronouns are left out: WordNet has "it" as information technology and "he" as helium.
_WORDNET_POS: dict[str, PartOfSpeech] = {
    "NOUN": "n",
    "PROPN": "n",
    "VERB": "v",
    "ADJ": "a",
    "ADV": "r",
}


@dataclass(frozen=True, slots=True)
class Replacements:
    """What an element may become, in a fixed order, with running sums of the weights."""

    words: tuple[str, ...]
    relations: tuple[str, ...]
    cumulative: list[int]

    def draw_two(self, draw: Draw, second: bool) -> int:
        """The index of the first draw, or of a second one without replacement."""
        first = draw.weighted(self.cumulative)
        if not second:
            return first
        before = self.cumulative[first - 1] if first else 0
        weight = self.cumulative[first] - before
        at = draw.below(self.cumulative[-1] - weight)
        # The first draw's stretch of the running sums is jumped over.
        return _locate(self.cumulative, at if at < before else at + weight)


def _locate(cumulative: list[int], at: int) -> int:
    low, high = 0, len(cumulative)
    while low < high:
        middle = (low + high) // 2
        if at < cumulative[middle]:
            high = middle
        else:
            low = middle + 1
    return low


@cache
def _prepositions() -> tuple[tuple[str, int], ...]:
    lines = (files("fscdata.negatives") / "prepositions.tsv").read_text().splitlines()[1:]
    return tuple((word, int(n)) for word, n in (line.split("\t") for line in lines))


@lru_cache(maxsize=4096)
def preposition_replacements(text: str) -> Replacements:
    """Every preposition but the one that stands there."""
    others = [(word, weight) for word, weight in _prepositions() if word != text.lower()]
    return Replacements(
        tuple(word for word, _ in others),
        ("preposition",) * len(others),
        list(accumulate(weight for _, weight in others)),
    )


@lru_cache(maxsize=4096)  # a common noun's takes 50 kB
def word_replacements(word: str, pos: PartOfSpeech) -> Replacements:
    """Antonyms and cousins of a word."""
    found = load_lexicon().replacements(word, pos)
    return Replacements(
        tuple(lemma.replace("_", " ") for lemma in found.lemmas),
        found.relations,
        [int(x) for x in accumulate(found.weights.tolist())],
    )


def is_phrasal_verb(verb: str, particle: str) -> bool:
    """Whether WordNet has the two words as one verb."""
    lexicon = load_lexicon()
    return any(
        lexicon.contains(f"{base}_{particle.lower()}", "v")
        for base in lexicon.base_forms(verb, "v")
    )


def replaceable(parse: Parse) -> list[tuple[Element, Replacements]] | str:
    """The elements of a caption that have replacements, or the reason why it has none."""
    graph = scene_graph(parse, is_phrasal_verb)
    if len(graph.entities) < 2:
        return "fewer than two entities"
    if not graph.modifiers and not graph.relations:
        return "no modifier and no relation"
    found = []
    for element in (*graph.entities, *graph.modifiers, *graph.relations):
        pos = parse.pos[element.root]
        if pos == "ADP":
            text = parse.text[parse.starts[element.start] : parse.end(element.end - 1)]
            found.append((element, preposition_replacements(text)))
        elif pos in _WORDNET_POS:
            # Of several tokens only the root is replaced.
            word = Element(element.kind, element.root, element.root + 1, element.root)
            replacements = word_replacements(parse.words[element.root], _WORDNET_POS[pos])
            if replacements.words:
                found.append((word, replacements))
    return found or "no replacement known"


class Replace(Style):
    """One object, attribute or relation replaced by another."""

    name = "replace"
    version = 1
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
            for second in range(min(2, len(replacements.words)))
        ]

        def one() -> Negative:
            element, replacements, second = places[draw.below(len(places))]
            index = replacements.draw_two(draw, bool(second))
            return _replace(parse, element, replacements, index)

        def everything() -> Iterator[Negative]:
            for element, replacements in found:
                for index in range(len(replacements.words)):
                    yield _replace(parse, element, replacements, index)

        return distinct(one, everything, lambda n: n.text, caption.text, variants) or (
            "no replacement known"
        )


def _replace(parse: Parse, element: Element, replacements: Replacements, index: int) -> Negative:
    start, end = parse.starts[element.start], parse.end(element.end - 1)
    old = parse.text[start:end]
    relation = replacements.relations[index]
    new = replacements.words[index]
    if relation != "preposition":
        new = inflect(new, parse.tags[element.root])
    edits = [Edit(start, end, old, match_case(new, old))]
    return Negative(apply_edits(parse.text, edits), f"replace:{element.kind}", edits, relation)


def create(argument: str | None) -> Style:
    """The style; it takes no argument."""
    no_argument(Replace.name, argument)
    return Replace()
