"""NegCLIP's swaps (Yuksekgonul et al., ICLR 2023): two spans of one family swap places.

Six families: noun phrases, verb phrases, singular and plural nouns, adverbs, adjectives. The
published code draws two spans of each family, drops pairs of equal text, and draws one of the
remaining pairs. Here every pair is listed with exactly the probability that procedure gives it, so
variants can be drawn without replacement. A test compares 20,000 draws of both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate, combinations
from math import comb

from fscdata.negatives.draw import Draw
from fscdata.negatives.parse import Parse
from fscdata.negatives.style import Caption, Edit, Negative, Style, no_argument

Span = tuple[int, int]  # [start, end), of tokens or of characters
_VERB_PHRASE = re.compile("V?D*X*V+")
_VERB_PHRASE_LETTERS = {"VERB": "V", "ADV": "D", "AUX": "X"}
_VERB_RUN = re.compile("[VDX]*V")
_MAX_SWAPS = 10_000  # per caption; a text with more is a list of words and takes gigabytes
_SCALE = 2**40  # makes probabilities integers, so that draws are exact


def span_families(parse: Parse) -> dict[str, list[Span]]:
    """The spans of each family; if spans overlap, the longest is kept."""
    tags, pos = parse.tags, parse.pos
    return {
        "noun_phrase": _without_overlap([(a, b) for a, b, _ in parse.chunks if b - a > 2]),
        "verb_phrase": _verb_phrases(pos),
        "noun": [(i, i + 1) for i, tag in enumerate(tags) if tag == "NN"],
        "plural_noun": [(i, i + 1) for i, tag in enumerate(tags) if tag == "NNS"],
        "adverb": [(i, i + 1) for i, p in enumerate(pos) if p == "ADV"],
        "adjective": [(i, i + 1) for i, p in enumerate(pos) if p == "ADJ"],
    }


def _verb_phrases(pos: list[str]) -> list[Span]:
    """The matches of VERB? ADV* AUX* VERB+."""
    letters = "".join([_VERB_PHRASE_LETTERS.get(p, " ") for p in pos])
    return [
        (run.start() + a, run.start() + b)
        for run in _VERB_RUN.finditer(letters)
        for a, b in _verb_phrases_of(run.group())
    ]


@lru_cache(maxsize=1024)
def _verb_phrases_of(run: str) -> list[Span]:
    """The verb phrases in a run of verbs, adverbs and auxiliaries."""
    return _without_overlap(
        [
            (start, end)
            for start in range(len(run))
            for end in range(start + 1, len(run) + 1)
            if _VERB_PHRASE.fullmatch(run, start, end)
        ]
    )


def _without_overlap(spans: list[Span]) -> list[Span]:
    if len(spans) < 2:
        return spans
    kept: list[Span] = []
    for start, end in sorted(spans, key=lambda s: (s[0] - s[1], s[0])):
        if all(end <= a or b <= start for a, b in kept):
            kept.append((start, end))
    return sorted(kept)


def swap_pairs(parse: Parse) -> Iterator[tuple[str, Span, Span, int]]:
    """(family, first, second, weight) of every pair whose texts differ; spans count characters."""
    text, starts, words = parse.text, parse.starts, parse.words
    families = []
    for name, spans in span_families(parse).items():
        if len(spans) < 2:
            continue
        ranges = [(starts[a], starts[b - 1] + len(words[b - 1])) for a, b in spans]
        texts = [(span, text[span[0] : span[1]]) for span in ranges]
        pairs = [(first, second) for (first, x), (second, y) in combinations(texts, 2) if x != y]
        if pairs:
            families.append((name, pairs, comb(len(spans), 2)))
    weights = _weights(tuple((len(pairs), drawn_from) for _, pairs, drawn_from in families))
    for (name, pairs, _), weight in zip(families, weights, strict=True):
        for first, second in pairs:
            yield name, first, second, weight


@lru_cache(maxsize=4096)
def _weights(families: tuple[tuple[int, int], ...]) -> list[int]:
    """The weight of one pair per family, given each family's (differing pairs, all pairs)."""
    weights = []
    for i, (_, drawn_from) in enumerate(families):
        others = [pairs / n for pairs, n in (*families[:i], *families[i + 1 :])]
        weights.append(round(_SCALE * _expected_share(others) / drawn_from))
    return weights


def _expected_share(others: list[float]) -> float:
    """E[1 / (1 + number of other families that have a pair)], given each one's probability."""
    chances = [1.0]  # probability that 0, 1, 2, … families have a pair
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
        candidates: dict[str, tuple[str, Span, Span]] = {}
        weights: dict[str, int] = {}
        for family, first, second, weight in swap_pairs(parse):
            if len(candidates) == _MAX_SWAPS:
                return f"more than {_MAX_SWAPS:,} swaps"
            text = _swapped(parse.text, first, second)
            if text in candidates:
                weights[text] += weight
            else:
                candidates[text] = (family, first, second)
                weights[text] = weight
        if not candidates:
            return "no two spans of a family that differ"
        chosen: list[Negative] = []
        while weights and len(chosen) < variants:
            at = draw.weighted(list(accumulate(weights.values())))
            text = list(weights)[at]
            del weights[text]
            chosen.append(_negative(parse.text, text, *candidates[text]))
        return chosen


def _swapped(text: str, first: Span, second: Span) -> str:
    (a, b), (c, d) = first, second
    return text[:a] + text[c:d] + text[b:c] + text[a:b] + text[d:]


def _negative(caption: str, text: str, family: str, first: Span, second: Span) -> Negative:
    (a, b), (c, d) = first, second
    former, latter = caption[a:b], caption[c:d]
    edits = [Edit(a, b, former, latter), Edit(c, d, latter, former)]
    return Negative(text, f"swap:{family}", edits)


def create(argument: str | None) -> Style:
    """The style; it takes no argument."""
    no_argument(NegClip.name, argument)
    return NegClip()
