"""Plurals of WordNet's nouns, and which nouns have none.

lemminflect lists the plurals of a noun, with the noun itself if it can be uncountable: "dog" has
"dogs", "air" has "airs" and "air", "mud" has "mud". A noun of the second kind, or one that the
table lacks, takes a plural if WordNet has it as something countable, or if the plural is a
frequent word: a token of its own in CLIP's vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from fscdata.lexicon import Lexicon, load_lexicon
from fscdata.negatives.regular import regular_plural
from fscdata.tokenizer import clip_words

Forms = Callable[[str, str], dict[str, tuple[str, ...]]]


class _Classes(NamedTuple):
    """WordNet's synsets whose hyponyms are countable, or are not."""

    animal: int
    alive: frozenset[int]  # and people and parts of bodies
    object: int
    food: frozenset[int]
    substance: frozenset[int]
    taxon: int


@cache
def _classes() -> _Classes:
    sense = load_lexicon().sense
    return _Classes(
        animal=sense("animal", "n", 1),
        alive=frozenset(
            sense(name, "n", 1) for name in ("living_thing", "causal_agent", "body_part")
        ),
        object=sense("object", "n", 1),
        food=frozenset((sense("food", "n", 1), sense("food", "n", 2))),
        substance=frozenset((sense("matter", "n", 3), sense("fabric", "n", 1))),
        taxon=sense("taxonomic_group", "n", 1),
    )


def plural(lemma: str, words: list[str], head: int, forms: Forms) -> str | None:
    """The plural of the lemma's word `head`, or None if the lemma should not have one.

    Args:
        lemma: as a caption spells it; `words` are its words.
        forms: lemminflect's forms of a word, by tag.
    """
    noun = words[head]
    lexicon, classes = load_lexicon(), _classes()
    above = lexicon.ancestors(lemma.replace(" ", "_"), "n")
    if classes.taxon in above:
        return None
    known = _known_plurals(noun, forms)
    if known == (noun,):  # uncountable, "trousers", or "sheep"
        paired = noun.endswith("s") and not noun.endswith("ss") and classes.object in above
        return noun if paired or classes.animal in above else None
    if known and known[0] == noun and classes.animal in above:
        return noun  # "deer"
    if known and noun not in known:
        return known[0]
    changed = next((form for form in known if form != noun), None)
    if changed is None:
        changed = _unlisted_plural(lexicon, words, head)
    countable = changed is not None and _is_countable(noun, changed, above, classes)
    return changed if countable else None


def _known_plurals(noun: str, forms: Forms) -> tuple[str, ...]:
    """lemminflect's plurals of a noun, or of its last part: "he-man" is inflected like "man"."""
    found = forms(noun, "PROPN" if noun[:1].isupper() else "NOUN").get("NNS", ())
    start, hyphen, end = noun.rpartition("-")
    if found or not end or not hyphen:
        return found
    irregular = load_lexicon().irregular_forms(noun, "n")
    if irregular:  # "mothers-in-law"
        return irregular
    return tuple(start + hyphen + form for form in forms(end, "NOUN").get("NNS", ()))


def _unlisted_plural(lexicon: Lexicon, words: list[str], head: int) -> str | None:
    """The plural of a noun that lemminflect lacks; None for Latin species and words in "s"."""
    noun = words[head]
    irregular = lexicon.irregular_forms(noun, "n")
    if irregular:
        return irregular[0]
    species = head > 0 and words[0][:1].isupper() and noun.islower()  # "Felis domesticus"
    return None if species or noun.endswith(("s", "ese")) else regular_plural(noun)


def _is_countable(noun: str, form: str, above: frozenset[int], classes: _Classes) -> bool:
    """Whether a noun that may be uncountable has a plural; `above` are its classes."""
    words = clip_words()
    if above & classes.substance:
        return bool(above & classes.food) and form in words
    if form in words or above & classes.alive:
        return True
    # Of a frequent noun ("equipment"), a countable one's plural would be frequent too.
    return classes.object in above and noun not in words
