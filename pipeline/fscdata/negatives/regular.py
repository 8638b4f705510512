"""The regular inflection of English verbs and nouns."""

from __future__ import annotations

import re

_SIBILANT = re.compile(r"(s|x|z|ch|sh)$")
_CONSONANT_Y = re.compile(r"(?<=[^aeiou])y$")
_DOUBLED = re.compile(r"[^aeiou]*[aeiou][bdfgklmnprtvz]")  # one syllable with a short vowel


def regular_verb(verb: str, tag: str) -> str:
    """The form for a Penn Treebank tag: "jellify" → "jellifying" (VBG)."""
    if tag in ("VB", "VBP"):
        return verb
    if tag == "VBZ":
        return _with_s(verb)
    stem = verb + verb[-1] if _DOUBLED.fullmatch(verb) else verb
    if tag == "VBG":
        if stem.endswith("ie"):
            return stem[:-2] + "ying"
        silent = stem.endswith("e") and not stem.endswith(("ee", "oe", "ye"))
        return (stem[:-1] if silent else stem) + "ing"
    return stem + "d" if stem.endswith("e") else _CONSONANT_Y.sub("i", stem) + "ed"


def regular_plural(noun: str) -> str:
    """The plural of a noun: "bootblack" → "bootblacks"."""
    return noun[:-2] + "en" if noun.endswith("man") else _with_s(noun)


def _with_s(word: str) -> str:
    if _CONSONANT_Y.search(word):
        return word[:-1] + "ies"
    return word + ("es" if _SIBILANT.search(word) else "s")
