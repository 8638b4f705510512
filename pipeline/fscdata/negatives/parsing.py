"""Parses each caption once, with spaCy; styles read the parse and never change it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any

from fscdata.negatives.fast.parser import CHECKED, FastParser, fingerprint
from fscdata.negatives.model import installed_model, without_torch
from fscdata.negatives.parse import Parse

with without_torch():
    import spacy
    from spacy.attrs import DEP, HEAD, IDX, POS, TAG
    from spacy.language import Language
    from spacy.tokens import Doc

log = logging.getLogger("fscdata")

_BATCH, _BATCH_CHARACTERS = 128, 20_000  # a batch ends when it reaches either
_VOCABULARY = 30_000  # words to keep; later ones are dropped after their batch
# Captions that exercise every component; the fast parser must parse them as spaCy does.
_CHECK = [
    "There's a bull's eye on the big red sign that two men aren't looking at , is there ?",
    "It is raining and  Bob's 3 dogs and cats ran quickly next to an old , green car before us.",
    "Which one was gonna be thrown by her ? Those !",
    "",
]


class Parser:
    """The English model without `ner` and `lemmatizer`, which no style needs.

    `fast`: whether `FastParser` replaces the slow components. This needs the tested versions of
    the model, spaCy and thinc, and the same parses of a few captions as with spaCy. Otherwise
    spaCy's own components are used, with one warning.
    """

    def __init__(self) -> None:
        self.info = installed_model()
        self._nlp = _load(self.info.model_name)
        self._parses: Callable[[Sequence[str]], list[Parse]] = self._plain_parses
        self.fast = fingerprint(self._nlp) == CHECKED and self._speed_up()
        if not self.fast:
            log.warning(
                "%s %s with spaCy %s has not been tested with the fast parser; using spaCy's own, "
                "which takes twice as long",
                self.info.model_name,
                self.info.model_version,
                self.info.spacy_version,
            )

    def _speed_up(self) -> bool:
        """Switch to `FastParser` if its parses equal spaCy's; returns whether they do."""
        expected = self._plain_parses(_CHECK)
        fast = FastParser(self._nlp)
        same = fast(_CHECK) == expected
        if same:
            self._parses = fast
        else:  # FastParser has modified the model
            self._nlp = _load(self.info.model_name)
        return same

    def parse(self, texts: Iterable[str]) -> Iterator[Parse]:
        """Parse the texts in order; a parse does not depend on its neighbours."""
        for batch in _batches(texts):
            yield from self._parses(batch)

    def _plain_parses(self, texts: Sequence[str]) -> list[Parse]:
        full = len(self._nlp.vocab) > _VOCABULARY
        with self._nlp.memory_zone() if full else nullcontext():
            return [plain_parse(doc) for doc in self._nlp.pipe(texts)]


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if len(batch) == _BATCH or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


@cache
def load_parser() -> Parser:
    """The parser of this process."""
    return Parser()


def _load(name: str) -> Language:
    return spacy.load(name, exclude=["ner", "lemmatizer"])


def plain_parse(doc: Doc) -> Parse:
    """The parse of a Doc that spaCy's components have processed."""
    rows: Any = doc.to_array([IDX, TAG, POS, DEP, HEAD])
    starts, tags, pos, deps, _ = rows.T.tolist()
    strings = doc.vocab.strings
    offsets = rows[:, 4].astype("int64").tolist()  # relative, stored as unsigned
    return Parse(
        text=doc.text,
        words=[token.text for token in doc],
        starts=starts,
        tags=[strings[i] for i in tags],
        pos=[strings[i] for i in pos],
        deps=[strings[i] for i in deps],
        heads=[i + offset for i, offset in enumerate(offsets)],
        chunks=[(chunk.start, chunk.end, chunk.root.i) for chunk in doc.noun_chunks],
    )
