"""Parses equal spaCy's and do not depend on the batch."""

from __future__ import annotations

import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from fscdata.negatives import model, parsing
from fscdata.negatives.fast import parser as fast_parser
from fscdata.negatives.parse import Parse, span_root
from fscdata.negatives.parsing import Parser, load_parser

with model.without_torch():
    import spacy
    from spacy.tokens import Doc


def expected_parse(doc: Doc) -> Parse:
    """The parse read from spaCy's own objects."""
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


def test_the_fast_parser_is_used() -> None:
    assert load_parser().fast


@pytest.mark.slow
def test_equals_spacy(captions: list[str]) -> None:
    check(captions)


@pytest.mark.slow
def test_equals_spacy_on_flickr(flickr_captions: list[str]) -> None:
    check(flickr_captions)


def test_equals_spacy_on_the_attribute_rules() -> None:
    """Sentences for the attribute ruler's special rules."""
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


@pytest.mark.slow
def test_does_not_depend_on_earlier_texts(monkeypatch, captions: list[str]) -> None:
    """The vocabulary is replaced after every few batches."""
    monkeypatch.setattr(fast_parser, "_VOCABULARY", 800)
    monkeypatch.setattr(parsing, "_BATCH", 8)
    parser = Parser()
    assert parser.fast
    texts = [text for i, caption in enumerate(captions) for text in (caption, f"zq{i} runs {i}")]
    assert list(parser.parse(texts)) == list(load_parser().parse(texts))
    assert len(parser._parses._tokenizer.vocab) < 900
    assert len(parser._nlp.vocab) < 900


def test_spacy_forgets_words_too(monkeypatch, captions: list[str]) -> None:
    monkeypatch.setattr(parsing, "CHECKED", ("0.0", "0.0", ""))
    monkeypatch.setattr(parsing, "_VOCABULARY", 0)
    parser = Parser()
    texts = [*captions[:20], "a zqzq runs", *captions[:20], "the zqzq runs"]
    assert list(parser.parse(texts)) == list(load_parser().parse(texts))
    assert "zqzq" not in parser._nlp.vocab.strings


@pytest.mark.slow
def test_texts_of_any_size() -> None:
    """No tokens, more different words than the cache holds, and more text than a batch holds."""
    check(
        [
            "",
            " ",
            "".join(map(chr, range(0x4E00, 0x4E00 + model.MAX_CHARACTERS))),
            " ".join(map(str, range(10_000, 14_500))),
            "a dog and a cat " * 300,
            "",
            "a dog",
        ]
    )
    assert list(load_parser().parse([])) == []


REASONS = ["spaCy's version", "thinc's version", "the weights", "the rules", "the answers"]


@pytest.mark.slow
@pytest.mark.parametrize("why", REASONS)
def test_falls_back_to_spacy(why: str, monkeypatch, caplog, captions: list[str]) -> None:
    def load(*args, **options):
        nlp = stock(*args, **options)
        if why == "the weights":
            maxout = next(n for n in nlp.get_pipe("tok2vec").model.walk() if n.name == "maxout")
            maxout.set_param("W", maxout.get_param("W") * np.float32(1.01))
        if why == "the rules":
            nlp.get_pipe("attribute_ruler").add([[{"LOWER": "dog"}]], {"POS": "X"})
        return nlp

    stock = spacy.load
    monkeypatch.setattr(parsing.spacy, "load", load)
    if why == "spaCy's version":
        monkeypatch.setattr(fast_parser.spacy, "__version__", "3.9.0")
    if why == "thinc's version":
        monkeypatch.setattr(fast_parser.thinc.about, "__version__", "9.0.0")
    if why == "the answers":
        monkeypatch.setattr(fast_parser, "_BE", frozenset({"sign"}))
    parser = Parser()
    assert not parser.fast
    warnings = [r.getMessage() for r in caplog.records if r.name == "fscdata"]
    assert len(warnings) == 1
    assert "has not been tested with the fast parser" in warnings[0]
    nlp = load(parser.info.model_name, exclude=["ner", "lemmatizer"])
    assert list(parser.parse(captions)) == [expected_parse(doc) for doc in nlp.pipe(captions)]


def python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
def test_torch_is_not_imported() -> None:
    python(
        "import sys\n"
        "from fscdata.negatives.parsing import load_parser\n"
        "assert 'torch' not in sys.modules\n"
        "import torch\n"
        "assert torch.ones(2).sum() == 2\n"
        "assert next(load_parser().parse(['a dog runs'])).tags == ['DT', 'NN', 'VBZ']\n"
    )


def test_finding_the_model_needs_no_spacy() -> None:
    python(
        "import sys\n"
        "from fscdata.negatives.model import installed_model\n"
        "assert installed_model().model_name.startswith('en_core_web_sm')\n"
        "assert 'spacy' not in sys.modules\n"
    )


def test_a_missing_model_is_named(monkeypatch) -> None:
    monkeypatch.setattr(model, "MODELS", ("en_no_such_model",))
    with pytest.raises(model.FsckitError, match="pip install en-core-web-sm"):
        model.installed_model.__wrapped__()


def test_span_root() -> None:
    heads = [1, 2, 2, 4, 2]
    assert span_root(heads, 0, 5) == 2
    assert span_root(heads, 0, 2) == 1
    assert span_root(heads, 3, 5) == 4
    assert span_root([1, 0], 0, 2) == 0, "a cycle has no root, so the first token"


def test_the_parser_names_its_model() -> None:
    """The name includes spaCy's version, its metadata, and a digest of the model's files."""
    info = load_parser().info
    nlp = spacy.load(info.model_name)
    assert info == model.ModelInfo(
        spacy.__version__,
        info.model_name,
        nlp.meta["version"],
        model._digest(Path(nlp.path)),
    )
    assert len(info.model_digest) == 32
