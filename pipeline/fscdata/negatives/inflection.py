"""A WordNet lemma in the form that the replaced word had."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache

from fscdata.negatives.model import without_torch

_VERBS = ("VB", "VBD", "VBG", "VBN", "VBP", "VBZ")
_DEGREES = {"JJR": "more", "JJS": "most", "RBR": "more", "RBS": "most"}
_INFLECTED = frozenset((*_VERBS, *_DEGREES, "NNS", "NNPS"))
_PREPOSITIONS = ("of", "in", "on", "at", "to", "for", "with", "from", "by")


def inflect(lemma: str, tag: str) -> str:
    """The lemma ("dining table", "look at") with its head in the form of a Penn Treebank tag.

    The head of a verb is its first word, that of a noun its last, or the last before a preposition
    ("pair of scissors"). A word that lemminflect does not know stays as it is.
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
    """lemminflect's function; late, since the import brings spaCy, which a driver does not need."""
    with without_torch():
        from lemminflect import getInflection  # noqa: PLC0415
    function: Callable[..., tuple[str, ...]] = getInflection
    return function


def match_case(new: str, old: str) -> str:
    """Upper case where the old word has it throughout, a capital where it begins with one."""
    if old.isupper() and len(old) > 1:
        return new.upper()
    if old.istitle():
        return new[0].upper() + new[1:]
    return new
