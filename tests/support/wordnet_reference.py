"""nltk's replacement sets, computed slowly or recorded for a few hundred words.

    python tests/support/wordnet_reference.py /usr/share/wordnet

rewrites `wordnet_reference.tsv`: word, part of speech, number of replacements, their digest. Tests
use it to compare the packaged lexicon with nltk on machines without WordNet and nltk's data.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fscdata.lexicon.check import nltk_wordnet
from fscdata.negatives.parsing import load_parser
from fscdata.negatives.styles.svlc import word_classes
from support.captions import ODD, TEMPLATES

REFERENCE = Path(__file__).with_suffix(".tsv")
POS = {"NOUN": "n", "PROPN": "n", "VERB": "v", "ADJ": "a", "ADV": "r"}


def cousins(synset: Any) -> list[Any]:
    """Lemmas of the synsets that share a grandparent."""
    uncles = [u for p in synset.hypernyms() for g in p.hypernyms() for u in g.hyponyms()]
    return [m for u in uncles for c in u.hyponyms() if c != synset for m in c.lemmas()]


def nltk_replacements(wordnet: Any, word: str, pos: str) -> set[str]:
    """What the published code can draw for a word, except the word itself."""
    synsets = wordnet.synsets(word, pos=pos)
    synonyms = {lemma.name() for s in synsets for lemma in s.lemmas()}
    found = {a.name() for s in synsets for lemma in s.lemmas() for a in lemma.antonyms()}
    for synset in synsets:
        if synset.pos() not in "as":
            found |= {lemma.name() for lemma in cousins(synset)}
            continue
        related = [r for lemma in synset.lemmas() for r in lemma.derivationally_related_forms()]
        for noun in {r.synset() for r in related if r.synset().pos() == "n"}:
            for lemma in cousins(noun):
                for form in lemma.derivationally_related_forms():
                    if form.synset() != synset and form.synset().pos() in "as":
                        found.add(form.name())
    return {name.replace("_", " ") for name in found - synonyms - {word.lower()}}


def digest(words: Iterable[str]) -> str:
    """The digest of a set of words."""
    return hashlib.blake2b("\n".join(sorted(words)).encode(), digest_size=8).hexdigest()


def words_of(captions: list[str]) -> list[tuple[str, str]]:
    """The replaceable words of captions, with their parts of speech."""
    return sorted(
        {
            (word.lower(), POS[pos])
            for parse in load_parser().parse(captions)
            for word, pos in zip(parse.words, parse.pos, strict=True)
            if pos in POS and word.isprintable()
        }
    )


def main() -> None:
    """See the module."""
    words = set(words_of([*TEMPLATES, *ODD]))
    words |= {(word, pos) for listed in word_classes().values() for word in listed for pos in "nva"}
    with nltk_wordnet(Path(sys.argv[1])) as wordnet, REFERENCE.open("w") as file:
        for word, pos in sorted(words):
            found = nltk_replacements(wordnet, word, pos)
            file.write(f"{word}\t{pos}\t{len(found)}\t{digest(found)}\n")


if __name__ == "__main__":
    main()
