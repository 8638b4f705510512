"""A parse is what spaCy says, whatever the neighbours, and nobody changes it."""

from __future__ import annotations

import random

import spacy

from fscdata.negatives.parsing import load_parser


def test_equals_spacy(captions: list[str]) -> None:
    parser = load_parser()
    nlp = spacy.load(parser.info.model_name, exclude=["ner", "lemmatizer"])
    for parse, doc in zip(parser.parse(captions), nlp.pipe(captions), strict=True):
        assert parse.text == doc.text
        assert parse.words == [t.text for t in doc]
        assert parse.starts == [t.idx for t in doc]
        assert parse.tags == [t.tag_ for t in doc]
        assert parse.pos == [t.pos_ for t in doc]
        assert parse.deps == [t.dep_ for t in doc]
        assert parse.heads == [t.head.i for t in doc]
        assert parse.chunks == [(c.start, c.end, c.root.i) for c in doc.noun_chunks]


def test_does_not_depend_on_the_batch(captions: list[str]) -> None:
    parser = load_parser()
    together = dict(zip(captions, parser.parse(captions), strict=True))
    shuffled = random.Random(1).sample(captions, len(captions))
    assert dict(zip(shuffled, parser.parse(shuffled), strict=True)) == together
    for caption in captions[::7]:
        assert list(parser.parse([caption])) == [together[caption]]


def test_model_is_named() -> None:
    info = load_parser().info
    assert info.model_name.startswith("en_core_web_sm")
    assert info.model_version.startswith("3.")
    assert len(info.model_digest) == 32
