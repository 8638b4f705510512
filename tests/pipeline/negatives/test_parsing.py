"""A parse is what spaCy says, whatever the neighbours, and nobody changes it."""

from __future__ import annotations

import random

import pytest
import spacy
from spacy.tokens import Doc

from fscdata.negatives import parsing
from fscdata.negatives.parse import Parse, span_root
from fscdata.negatives.parsing import Parser, load_parser


def expected_parse(doc: Doc) -> Parse:
    """What spaCy's own objects say."""
    return Parse(
        doc.text,
        [t.text for t in doc],
        [t.idx for t in doc],
        [t.tag_ for t in doc],
        [t.pos_ for t in doc],
        [t.dep_ for t in doc],
        [t.head.i for t in doc],
        [(c.start, c.end, c.root.i) for c in doc.noun_chunks],
    )


def check(captions: list[str]) -> None:
    nlp = spacy.load(load_parser().info.model_name, exclude=["ner", "lemmatizer"])
    for parse, doc in zip(load_parser().parse(captions), nlp.pipe(captions), strict=True):
        assert parse == expected_parse(doc)


def test_the_fast_path_is_taken() -> None:
    assert load_parser().fast


def test_equals_spacy(captions: list[str]) -> None:
    check(captions)


def test_equals_spacy_on_flickr(flickr_captions: list[str]) -> None:
    check(flickr_captions)


def test_equals_spacy_on_rules_of_the_ruler() -> None:
    """Sentences that the attribute ruler's odd rules are about."""
    check(
        [
            "There is a dog .",
            "There 's a dog and there're cats .",
            "There was no one ; those were ours .",
            "which dog is that , and whose is it ?",
            "He gets what he got , y'all ain't gonna let's gotta c'm on",
            "   leading and  double\n\nspaces\tand a tab ",
            "to be or not to be",
            "some all any each every no both",
        ]
    )


def test_does_not_depend_on_the_batch(captions: list[str]) -> None:
    parser = load_parser()
    together = dict(zip(captions, parser.parse(captions), strict=True))
    shuffled = random.Random(1).sample(captions, len(captions))
    assert dict(zip(shuffled, parser.parse(shuffled), strict=True)) == together
    for caption in captions[::7]:
        assert list(parser.parse([caption])) == [together[caption]]


@pytest.mark.parametrize("why", ["other rules", "other answers"])
def test_falls_back_to_spacy(why: str, monkeypatch, caplog, captions: list[str]) -> None:
    if why == "other rules":
        monkeypatch.setattr(parsing, "KNOWN_RULES", "those of another model")
    else:
        monkeypatch.setattr("fscdata.negatives.fast_parse._BE", frozenset({"sign"}))
    parser = Parser()
    assert not parser.fast
    assert "is not the model that the fast path was checked with" in caplog.text
    monkeypatch.undo()
    assert list(parser.parse(captions[:20])) == list(load_parser().parse(captions[:20]))


def test_span_root() -> None:
    heads = [1, 2, 2, 4, 2]
    assert span_root(heads, 0, 5) == 2
    assert span_root(heads, 0, 2) == 1
    assert span_root(heads, 3, 5) == 4
    assert span_root([1, 0], 0, 2) == 0, "a circle has no root: the first"


def test_model_is_named() -> None:
    info = load_parser().info
    assert info.model_name.startswith("en_core_web_sm")
    assert info.model_version.startswith("3.")
    assert len(info.model_digest) == 32
