"""NegCLIP's swaps (Yuksekgonul et al., ICLR 2023): two spans of one family change places.

Six families: noun phrases, verb phrases, singular and plural nouns, adverbs, adjectives. The
published code draws two spans of each family, drops pairs that read alike, and draws one of the
families' pairs; here every pair is enumerated with the probability that this gives it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from math import comb

from fscdata.negatives.draw import Draw
from fscdata.negatives.parse import Parse
from fscdata.negatives.style import Caption, Edit, Negative, Style, apply_edits, no_argument

Span = tuple[int, int]  # tokens [start, end)
_VERB_PHRASE = re.compile("V?D*X*V+")
_VERB_PHRASE_LETTERS = {"VERB": "V", "ADV": "D", "AUX": "X"}
_SCALE = 2**40  # probabilities as integers, so that draws are exact


def span_families(parse: Parse) -> dict[str, list[Span]]:
    """The spans of each family, those that overlap within a family filtered, longest first."""
    tags, pos = parse.tags, parse.pos
    families = {
        "noun_phrase": [(start, end) for start, end, _ in parse.chunks if end - start > 2],
        "verb_phrase": _verb_phrases(pos),
        "noun": [(i, i + 1) for i, tag in enumerate(tags) if tag == "NN"],
        "plural_noun": [(i, i + 1) for i, tag in enumerate(tags) if tag == "NNS"],
        "adverb": [(i, i + 1) for i, p in enumerate(pos) if p == "ADV"],
        "adjective": [(i, i + 1) for i, p in enumerate(pos) if p == "ADJ"],
    }
    families["noun_phrase"] = _without_overlap(families["noun_phrase"])
    families["verb_phrase"] = _without_overlap(families["verb_phrase"])
    return families


def _verb_phrases(pos: list[str]) -> list[Span]:
    """Every match of VERB? ADV* AUX* VERB+, long and short."""
    letters = "".join(_VERB_PHRASE_LETTERS.get(p, " ") for p in pos)
    return [
        (start, end)
        for run in re.finditer("[VDX]*V", letters)
        for start in range(*run.span())
        for end in range(start + 1, run.end() + 1)
        if _VERB_PHRASE.fullmatch(letters, start, end)
    ]


def _without_overlap(spans: list[Span]) -> list[Span]:
    kept: list[Span] = []
    for start, end in sorted(spans, key=lambda s: (s[0] - s[1], s[0])):
        if all(end <= a or b <= start for a, b in kept):
            kept.append((start, end))
    return sorted(kept)


def swap_pairs(parse: Parse) -> Iterator[tuple[str, Span, Span, int]]:
    """Every pair of a family whose texts differ, with its integer weight."""
    families = []
    for name, spans in span_families(parse).items():
        texts = [parse.text[parse.starts[a] : parse.end(b - 1)] for a, b in spans]
        pairs = [
            (spans[i], spans[j])
            for i, j in combinations(range(len(spans)), 2)
            if texts[i] != texts[j]
        ]
        if pairs:
            families.append((name, pairs, comb(len(spans), 2)))
    for index, (name, pairs, drawn_from) in enumerate(families):
        others = [len(p) / n for i, (_, p, n) in enumerate(families) if i != index]
        weight = round(_SCALE * _expected_share(others) / drawn_from)
        for first, second in pairs:
            yield name, first, second, weight


def _expected_share(others: list[float]) -> float:
    """E[1 / (1 + how many of the other families have a pair)], each having one by its chance."""
    chances = [1.0]  # of 0, 1, 2, … families having a pair
    for p in others:
        chances = [
            (chances[k] * (1 - p) if k < len(chances) else 0.0) + (chances[k - 1] * p if k else 0.0)
            for k in range(len(chances) + 1)
        ]
    return sum(chance / (1 + k) for k, chance in enumerate(chances))


class NegClip(Style):
    """Swaps of two spans of one family."""

    name = "negclip"
    version = 1

    def negatives(self, caption: Caption, draw: Draw, variants: int) -> list[Negative] | str:
        """See `Style.negatives`."""
        parse = caption.parse
        assert parse is not None
        candidates: dict[str, Negative] = {}
        weights: dict[str, int] = {}
        for family, first, second, weight in swap_pairs(parse):
            negative = _swap(parse, family, first, second)
            candidates.setdefault(negative.text, negative)
            weights[negative.text] = weights.get(negative.text, 0) + weight
        if not candidates:
            return "no two spans of a family that differ"
        texts = list(candidates)
        chosen: list[Negative] = []
        while texts and len(chosen) < variants:
            total, sums = 0, []
            for text in texts:
                total += weights[text]
                sums.append(total)
            chosen.append(candidates[texts.pop(draw.weighted(sums))])
        return chosen


def _swap(parse: Parse, family: str, first: Span, second: Span) -> Negative:
    ranges = [(parse.starts[a], parse.end(b - 1)) for a, b in sorted((first, second))]
    old = [parse.text[start:end] for start, end in ranges]
    edits = [
        Edit(*ranges[0], old=old[0], new=old[1]),
        Edit(*ranges[1], old=old[1], new=old[0]),
    ]
    return Negative(apply_edits(parse.text, edits), f"swap:{family}", edits)


def create(argument: str | None) -> Style:
    """The style; it takes no argument."""
    no_argument(NegClip.name, argument)
    return NegClip()
