"""Parses with spaCy's model, without spaCy's slowest parts.

Vectors come from `tok2vec`. In spaCy the attribute ruler, which turns tags into parts of speech,
takes a fifth of the time, and visiting a Doc's tokens another tenth. The ruler's result depends
only on one token's word, tag and label (except for a rule that covers two tokens), so it runs once
per triple and the result is cached. Tokenizer, tagger and parser are spaCy's own.
`tests/pipeline/negatives/test_parsing.py` compares this with spaCy's parses.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import chain
from typing import Any

from fscdata.negatives.fast.tok2vec import FastTok2Vec, use_exact_features
from fscdata.negatives.model import without_torch
from fscdata.negatives.parse import Parse, span_root

with without_torch():
    import spacy
    import thinc.about
    from spacy.attrs import DEP, HEAD, IDX, ORTH, TAG
    from spacy.language import Language
    from spacy.tokenizer import Tokenizer
    from spacy.tokens import Doc
    from spacy.vocab import Vocab

# The tested versions of spaCy and thinc, and en_core_web_sm 3.8.0's weights, labels and rules.
# With any others `parsing.Parser` falls back to spaCy's own components.
CHECKED = ("3.8", "8.3", "a4d6419a18c94232")
_RULER = "attribute_ruler"
_OTHER = "_"  # represents all words that no rule names
# The vocabulary is replaced after this many words. nlp.memory_zone() does not help: inside a zone
# spaCy does not cache tokenization, and deleted words still fill its tables.
_VOCABULARY = 30_000
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


def fingerprint(nlp: Language) -> tuple[str, str, str]:
    """The minor versions of spaCy and thinc, and a digest of all model parts that affect parses."""
    digest = hashlib.blake2b(digest_size=8)
    for name in ("tok2vec", "tagger", "parser"):
        pipe: Any = nlp.get_pipe(name)
        digest.update(json.dumps([name, *getattr(pipe, "labels", ())]).encode())
        for node in pipe.model.walk():
            for param in sorted(node.param_names):
                digest.update(node.get_param(param).tobytes())
    ruler: Any = nlp.get_pipe(_RULER)
    digest.update(json.dumps(ruler.patterns, sort_keys=True).encode())
    versions = (spacy.__version__, thinc.about.__version__)
    spacy_minor, thinc_minor = (".".join(version.split(".")[:2]) for version in versions)
    return spacy_minor, thinc_minor, digest.hexdigest()


class FastParser:
    """Maps texts to parses. It modifies `nlp`, which must not be used afterwards."""

    def __init__(self, nlp: Language) -> None:
        self._vocab = nlp.vocab
        self._tok2vec = FastTok2Vec(nlp.get_pipe("tok2vec").model)
        self._tagger: Any = nlp.get_pipe("tagger")
        self._parser: Any = nlp.get_pipe("parser")
        use_exact_features(self._parser.model, self._tok2vec.longest)
        self._ruler: Any = nlp.get_pipe(_RULER)
        self._named = _named_words(self._ruler)
        self._ruled: dict[tuple[str, int, int], tuple[str, str, str]] = {}
        self._expletive = nlp.vocab.strings["expl"]
        self._tokenizer_bytes = nlp.tokenizer.to_bytes(exclude=["vocab"])
        self._forget()

    def _forget(self) -> None:
        """Start with an empty vocabulary, since spaCy's keeps every word it has ever seen."""
        vocab = Vocab(lex_attr_getters=self._vocab.lex_attr_getters, lookups=self._vocab.lookups)
        for move in self._parser.move_names:  # "L-nsubj", "R-dobj||conj", "S"
            vocab.strings.add(move.partition("-")[2])
        self._tokenizer = Tokenizer(vocab).from_bytes(self._tokenizer_bytes)
        self._words: dict[int, tuple[str, str]] = {}

    def __call__(self, texts: Sequence[str]) -> list[Parse]:
        """The parses of a batch of texts."""
        if len(self._tokenizer.vocab) > _VOCABULARY:
            self._forget()
        docs = [self._tokenizer(text) for text in texts]
        self._tok2vec(docs)
        self._tagger.set_annotations(docs, self._tagger.predict(docs))
        self._parser.set_annotations(docs, self._states(docs))
        return [self._parse(text, doc) for text, doc in zip(texts, docs, strict=True)]

    def _states(self, docs: Sequence[Doc]) -> list[Any]:
        """spaCy's `predict`, without its threads: they spend half the time on the GIL."""
        batch: list[Any] = self._parser.moves.init_batch(docs)
        states = [state for state in batch if not state.is_final()]
        if states:
            model = self._parser.model.predict(docs)
        while states:
            states = self._parser.transition_states(states, model.predict(states))
        return batch

    def _parse(self, text: str, doc: Doc) -> Parse:
        """The parse of a Doc that has been tagged and parsed."""
        if not len(doc):
            return Parse(text, [], [], [], [], [], [], [])
        rows: Any = doc.to_array([ORTH, TAG, DEP, IDX, HEAD])
        orths, tags, deps, starts, _ = rows.T.tolist()
        offsets = rows[:, 4].astype("int64").tolist()  # relative, stored as unsigned
        known = [self._words.get(orth) or self._learn(orth) for orth in orths]
        ruled = [
            self._ruled.get(key) or self._rule(key)
            for key in zip((role for _, role in known), tags, deps, strict=True)
        ]
        words = [word for word, _ in known]
        tag_names, pos, dep_names = map(list, zip(*ruled, strict=True))
        # The two-token rule: "there is".
        if self._expletive in deps:
            for i in range(1, len(words)):
                if deps[i - 1] == self._expletive and words[i].lower() in _BE:
                    pos[i] = "VERB"
        heads = [i + offset for i, offset in enumerate(offsets)]
        chunks = noun_chunks(doc, pos, dep_names, heads)
        return Parse(text, words, starts, tag_names, pos, dep_names, heads, chunks)

    def _learn(self, orth: int) -> tuple[str, str]:
        """A word and its role in the rules: itself if a rule names it, a space, or `_OTHER`."""
        word = self._tokenizer.vocab.strings[orth]
        role = word.lower()
        if role not in self._named:
            role = " " if word.isspace() else _OTHER
        found = self._words[orth] = (word, role)
        return found

    def _rule(self, key: tuple[str, int, int]) -> tuple[str, str, str]:
        """The tag, part of speech and label that the ruler assigns."""
        word, tag, dep = key
        strings = self._vocab.strings
        names = {"tags": [strings[tag]], "deps": [strings[dep]]}
        (token,) = self._ruler(Doc(self._vocab, [word], heads=[0], **names))
        found = self._ruled[key] = (token.tag_, token.pos_, token.dep_)
        return found


def _named_words(ruler: Any) -> set[str]:
    """The lower-case words that rules name; rules with regular expressions only set lemmas."""
    named: set[str] = set()
    for rule in ruler.patterns:
        for token in chain.from_iterable(rule["patterns"]):
            lower = token.get("LOWER", {})
            named.update([lower] if isinstance(lower, str) else lower.get("IN", ()))
    return named


def noun_chunks(
    doc: Doc, pos: list[str], deps: list[str], heads: list[int]
) -> list[tuple[int, int, int]]:
    """(start, end, root) of each noun chunk, by spaCy's rules for English."""
    chunks = []
    last = -1
    for i, kind in enumerate(pos):
        if kind not in _NOMINAL:
            continue
        start = doc[i].left_edge.i
        if start <= last:
            continue
        head = i
        if deps[i] == "conj":  # a conjunct of a chunk is a chunk too
            head = heads[i]
            while deps[head] == "conj" and heads[head] < head:
                head = heads[head]
        if deps[head] in _CHUNK_LABELS:
            last = i
            chunks.append((start, i + 1, span_root(heads, start, i + 1)))
    return chunks
