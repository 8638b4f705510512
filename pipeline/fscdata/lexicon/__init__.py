"""Compiled WordNet: base forms, and the antonyms and cousins that the replace style draws from."""

from fscdata.lexicon.build import build_lexicon
from fscdata.lexicon.check import CheckReport, check_lexicon
from fscdata.lexicon.lexicon import (
    PACKAGED,
    Lexicon,
    Replacements,
    Strings,
    load_lexicon,
    read_lexicon,
)
from fscdata.lexicon.table import PartOfSpeech

__all__ = [
    "PACKAGED",
    "CheckReport",
    "Lexicon",
    "PartOfSpeech",
    "Replacements",
    "Strings",
    "build_lexicon",
    "check_lexicon",
    "load_lexicon",
    "read_lexicon",
]
