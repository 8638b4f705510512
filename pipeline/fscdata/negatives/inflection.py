"""Inflects a WordNet lemma like the word it replaces, or says that it cannot.

lemminflect (MIT, 1 MB, last release 2022) has a table of 40,000 words, which loads in 0.1 s. Words
that it lacks take WordNet's irregular forms, or follow the rules of regular inflection.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache

from fscdata.lexicon import load_lexicon
from fscdata.negatives.model import without_torch
from fscdata.negatives.plural import plural
from fscdata.negatives.regular import regular_verb

_VERBS = frozenset(("VBD", "VBG", "VBN", "VBP", "VBZ"))
_DEGREES = {"JJR": "more", "JJS": "most", "RBR": "more", "RBS": "most"}
_COMPARED = frozenset(("more", "most", "less", "least"))
_PREPOSITIONS = frozenset(("of", "in", "on", "at", "to", "for", "with", "from", "by"))
_ENDINGS = {"VBD": "ed", "VBN": "ed", "VBG": "ing", "VBZ": "s"}


def inflect(lemma: str, tag: str) -> str | None:
    """The lemma ("dining table", "look at") with its head inflected for a Penn Treebank tag.

    A verb's head is its first word; a noun's is its last word, or the last before a preposition
    ("pair of scissors"). None if the lemma has no such form, as "furniture" has no plural.
    """
    if tag in _VERBS:
        return _inflected_verb(lemma, tag)
    if tag in ("NNS", "NNPS"):
        return _inflected_noun(lemma)
    return _compared(lemma, tag) if tag in _DEGREES else lemma


@lru_cache(maxsize=2**14)
def _inflected_noun(lemma: str) -> str | None:
    words = lemma.split(" ")
    inner = [i for i, word in enumerate(words) if i and word in _PREPOSITIONS]
    head = (inner[0] if inner else len(words)) - 1
    form = plural(lemma, words, head, _forms)
    return None if form is None else " ".join([*words[:head], form, *words[head + 1 :]])


@lru_cache(maxsize=2**14)
def _inflected_verb(lemma: str, tag: str) -> str:
    head, space, rest = lemma.partition(" ")
    start, hyphen, end = head.rpartition("-")  # "water-ski" is inflected like "ski"
    return start + hyphen + _verb_form(end, tag) + space + rest


def _verb_form(verb: str, tag: str) -> str:
    forms = _forms(verb, "VERB")
    if tag in forms:
        form = forms[tag][-1 if tag == "VBP" else 0]  # "are", not "am"
        if form != verb or tag == "VBP" or _is_invariant(verb, tag, forms):
            return form
    elif tag != "VBP":
        irregular = load_lexicon().irregular_forms(verb, "v")
        found = [form for form in irregular if form.endswith(_ENDINGS[tag])]
        if not found and tag in ("VBD", "VBN"):  # "outrode", "outridden"
            found = [form for form in irregular if not form.endswith("ing")]
            found.sort(key=lambda form: form.endswith("n"), reverse=tag == "VBN")
        if found:
            return found[0]
    return regular_verb(verb, tag)


def _is_invariant(verb: str, tag: str, forms: dict[str, tuple[str, ...]]) -> bool:
    """Whether a past form can equal the verb: "put", "come". lemminflect's table has errors."""
    if tag not in ("VBD", "VBN"):
        return False
    return verb[-1] in "td" or (tag == "VBN" and not forms["VBD"][0].endswith("ed"))


@lru_cache(maxsize=2**14)
def _compared(lemma: str, tag: str) -> str | None:
    """A comparative or a superlative."""
    adjective = tag.startswith("J")
    # WordNet has "less", "better" and "best" as lemmas.
    if lemma in _COMPARED or load_lexicon().is_irregular(lemma, "a" if adjective else "r"):
        return lemma if lemma.endswith("st") == tag.endswith("S") else None
    forms = _forms(lemma, "ADJ" if adjective else "ADV").get(tag)
    return forms[0] if forms else f"{_DEGREES[tag]} {lemma}"


def _forms(word: str, upos: str) -> dict[str, tuple[str, ...]]:
    """lemminflect's forms of a word by tag."""
    found: dict[str, tuple[str, ...]] = _get_all_inflections()(word, upos)
    return found


@cache
def _get_all_inflections() -> Callable[[str, str], dict[str, tuple[str, ...]]]:
    """lemminflect's `getAllInflections`."""
    with without_torch():
        # lemminflect imports spaCy, which only workers need.
        from lemminflect import getAllInflections  # noqa: PLC0415
    function: Callable[[str, str], dict[str, tuple[str, ...]]] = getAllInflections
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
