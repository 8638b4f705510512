"""What spaCy's attribute ruler and noun chunks say, without running them for every caption.

In a plain run of the model the attribute ruler takes a fifth of the time to turn tags into parts of
speech, and going through a Doc's tokens another tenth. The ruler's answer depends on one token's
word, tag and label alone, but for one rule of two tokens; so it runs once for each of those and the
answer is remembered. `tests/pipeline/negatives/test_parsing.py` holds this equal to spaCy's own.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from spacy.attrs import DEP, HEAD, IDX, ORTH, TAG
from spacy.language import Language
from spacy.tokens import Doc

from fscdata.negatives.parse import Parse, span_root

# The rules that the memo was written for, those of en_core_web_sm 3.8.0.
KNOWN_RULES = "8b9a8874a4b22240"
_RULER = "attribute_ruler"
_MEMO_SIZE = 500_000
_BE = frozenset({"is", "are", "was", "were", "'s", "'re"})
_NOMINAL = frozenset({"NOUN", "PROPN", "PRON"})
_CHUNK_LABELS = frozenset(
    {
        "oprd",
        "nsubj",
        "dobj",
        "nsubjpass",
        "pcomp",
        "pobj",
        "dative",
        "appos",
        "attr",
        "ROOT",
    }
)


def rules_digest(nlp: Language) -> str:
    """Of the attribute ruler's rules."""
    patterns: Any = nlp.get_pipe(_RULER)
    rules = json.dumps(patterns.patterns, sort_keys=True)
    return hashlib.blake2b(rules.encode(), digest_size=8).hexdigest()


class FastParse:
    """Docs without parts of speech → parses; `nlp` has an attribute ruler that does not run."""

    def __init__(self, nlp: Language) -> None:
        self._vocab = nlp.vocab
        self._strings = nlp.vocab.strings
        self._ruler = nlp.get_pipe(_RULER)
        self._memo: dict[tuple[int, int, int], tuple[str, str, str, str]] = {}

    def __call__(self, doc: Doc) -> Parse:
        """The parse of a Doc that tagger and parser have been through."""
        rows: Any = doc.to_array([ORTH, TAG, DEP, IDX, HEAD])
        orths, tags, deps, starts, _ = rows.T.tolist()
        offsets = rows[:, 4].astype("int64").tolist()  # relative, stored as unsigned
        known = [self._token(*key) for key in zip(orths, tags, deps, strict=True)]
        words, tag_names, pos, dep_names = (
            [list(column) for column in zip(*known, strict=True)] if known else ([], [], [], [])
        )
        for i in range(1, len(words)):
            if self._strings[deps[i - 1]] == "expl" and words[i].lower() in _BE:
                pos[i] = "VERB"
        heads = [i + offset for i, offset in enumerate(offsets)]
        chunks = noun_chunks(doc, pos, dep_names, heads)
        return Parse(doc.text, words, starts, tag_names, pos, dep_names, heads, chunks)

    def _token(self, orth: int, tag: int, dep: int) -> tuple[str, str, str, str]:
        """Word, tag, part of speech and label as they are after the ruler."""
        key = (orth, tag, dep)
        found = self._memo.get(key)
        if found is None:
            if len(self._memo) >= _MEMO_SIZE:
                self._memo.clear()
            word, tag_name, dep_name = (self._strings[i] for i in key)
            doc = Doc(self._vocab, [word], tags=[tag_name], deps=[dep_name], heads=[0])
            (token,) = self._ruler(doc)
            found = self._memo[key] = (word, token.tag_, token.pos_, token.dep_)
        return found


def noun_chunks(
    doc: Doc, pos: list[str], deps: list[str], heads: list[int]
) -> list[tuple[int, int, int]]:
    """(start, end, root) of each noun chunk, by the rules of spaCy's `noun_chunks` for English."""
    chunks = []
    last = -1
    for i, kind in enumerate(pos):
        if kind not in _NOMINAL:
            continue
        start = doc[i].left_edge.i
        if start <= last:
            continue
        head = i
        if deps[i] == "conj":  # a noun beside a noun that is a chunk is one too
            head = heads[i]
            while deps[head] == "conj" and heads[head] < head:
                head = heads[head]
        if deps[head] in _CHUNK_LABELS:
            last = i
            chunks.append((start, i + 1, span_root(heads, start, i + 1)))
    return chunks
