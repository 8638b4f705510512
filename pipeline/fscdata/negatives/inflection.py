"""Inflects a WordNet lemma like the word it replaces.

lemminflect (MIT, 1 MB, last release 2022) is a table with rules. It loads in 0.1 s and beats
simple rules.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache

from fscdata.negatives.model import without_torch

_VERBS = ("VB", "VBD", "VBG", "VBN", "VBP", "VBZ")
_DEGREES = {"JJR": "more", "JJS": "most", "RBR": "more", "RBS": "most"}
_INFLECTED = frozenset((*_VERBS, *_DEGREES, "NNS", "NNPS"))
_PREPOSITIONS = ("of", "in", "on", "at", "to", "for", "with", "from", "by")


def inflect(lemma: str, tag: str) -> str:
    """The lemma ("dining table", "look at") with its head inflected for a Penn Treebank tag.

    A verb's head is its first word; a noun's is its last word, or the last before a preposition
    ("pair of scissors"). A word unknown to lemminflect is not changed.
    """
    return _inflected(lemma, tag) if tag in _INFLECTED else lemma


@lru_cache(maxsize=2**14)
def _inflected(lemma: str, tag: str) -> str:
    words = lemma.split(" ")
    if tag in _VERBS:
        head = 0
    else:
        inner = [i for i, word in enumerate(words) if i and word in _PREPOSITIONS]
        head = (inner[0] if inner else len(words)) - 1
    forms = _get_inflection()(words[head], "NNS" if tag == "NNPS" else tag, inflect_oov=False)
    if forms:
        words[head] = forms[0]
    elif tag in _DEGREES:
        words.insert(0, _DEGREES[tag])
    return " ".join(words)


@cache
def _get_inflection() -> Callable[..., tuple[str, ...]]:
    """lemminflect's `getInflection`."""
    with without_torch():
        # lemminflect imports spaCy, which only workers need.
        from lemminflect import getInflection  # noqa: PLC0415
    function: Callable[..., tuple[str, ...]] = getInflection
    return function


def match_case(new: str, old: str) -> str:
    """The new word in the case of the old one: all capitals, an initial capital, or unchanged.

    Not `title()`, which makes "Bull'S Eye".
    """
    if old.isupper() and len(old) > 1:
        return new.upper()
    if old.istitle():
        return new[0].upper() + new[1:]
    return new
