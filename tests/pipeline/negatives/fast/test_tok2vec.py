"""The vectors are close to spaCy's, do not depend on the batch, and have exact sums."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from itertools import chain

import numpy as np
import pytest

from fscdata.negatives.fast import tok2vec as module
from fscdata.negatives.fast.tok2vec import FastTok2Vec, use_exact_features
from fscdata.negatives.model import installed_model, without_torch

with without_torch():
    import spacy


@pytest.fixture(scope="module")
def nlp():
    return spacy.load(installed_model().model_name, exclude=["ner", "lemmatizer"])


@pytest.fixture(scope="module")
def tok2vec(nlp) -> FastTok2Vec:
    return FastTok2Vec(nlp.get_pipe("tok2vec").model)


def tensors(nlp, tok2vec: FastTok2Vec, texts: list[str]) -> list[np.ndarray]:
    docs = [nlp.make_doc(text) for text in texts]
    tok2vec(docs)
    return [doc.tensor for doc in docs]


def same(some: list[np.ndarray], others: list[np.ndarray]) -> bool:
    return all(np.array_equal(*pair) for pair in zip(some, others, strict=True))


def test_close_to_spacy(nlp, tok2vec: FastTok2Vec, captions: list[str]) -> None:
    docs = [nlp.make_doc(caption) for caption in captions]
    for ours, stock in zip(
        tensors(nlp, tok2vec, captions), nlp.get_pipe("tok2vec").predict(docs), strict=True
    ):
        np.testing.assert_allclose(ours, stock, atol=2e-5)


def test_vectors_do_not_depend_on_the_batch(nlp, tok2vec: FastTok2Vec, captions: list[str]) -> None:
    together = tensors(nlp, tok2vec, captions)
    order = random.Random(2).sample(range(len(captions)), len(captions))
    shuffled = tensors(nlp, tok2vec, [captions[i] for i in order])
    assert same([together[i] for i in order], shuffled)
    assert same(together, [tensors(nlp, tok2vec, [caption])[0] for caption in captions])


def test_vectors_survive_an_emptied_cache(nlp, tok2vec, monkeypatch, captions: list[str]) -> None:
    monkeypatch.setattr(module, "_MEMO_WORDS", 40)
    forgetful = FastTok2Vec(nlp.get_pipe("tok2vec").model)
    parts = [tensors(nlp, forgetful, captions[i : i + 5]) for i in range(0, len(captions), 5)]
    assert same(list(chain.from_iterable(parts)), tensors(nlp, tok2vec, captions))


def test_texts_without_tokens(nlp, tok2vec: FastTok2Vec) -> None:
    assert tensors(nlp, tok2vec, ["", ""])[0].size == 0
    assert same(tensors(nlp, tok2vec, ["", "a dog", ""])[1:2], tensors(nlp, tok2vec, ["a dog"])), (
        "texts without tokens are not neighbours"
    )


def test_sums_are_exact(tok2vec: FastTok2Vec) -> None:
    """Compared with Python's integers, for the longest possible inputs."""
    layer = tok2vec._layers[-1]
    draw = np.random.default_rng(3)
    inputs = draw.standard_normal((4, len(layer.weights)))
    longest = np.sqrt(3) * (tok2vec.longest - layer.longest)
    inputs *= longest / np.linalg.norm(inputs, axis=1, keepdims=True)
    steps = np.rint(inputs * module._STEPS)
    unit = 2.0**-60
    weights = layer.weights / unit
    assert np.array_equal(weights, np.rint(weights))
    exact = steps.astype("int64").astype(object) @ weights.astype("int64").astype(object)
    assert (layer.pieces(steps) - layer.bias != 0).all()
    assert np.array_equal(steps @ layer.weights, (exact * unit).astype("float64"))
    backwards = steps[:, ::-1].copy() @ layer.weights[::-1].copy()
    assert np.array_equal(backwards, steps @ layer.weights)


def test_parser_features(tok2vec: FastTok2Vec) -> None:
    parser = spacy.load(installed_model().model_name).get_pipe("parser").model
    stock = parser.get_ref("lower")
    use_exact_features(parser, tok2vec.longest)
    ours = parser.get_ref("lower")
    assert ours is not stock
    x = np.random.default_rng(4).standard_normal((50, stock.get_dim("nI"))).astype("float32")
    features = ours.predict(x).copy()
    np.testing.assert_allclose(features, stock.predict(x), atol=2e-5)
    assert np.array_equal(ours.predict(x[::-1])[1:], features[:0:-1])
    assert np.array_equal(ours.predict(x[7:8]), features[[0, 8]])


DIGEST = """
import hashlib, sys
from fscdata.negatives.fast.tok2vec import FastTok2Vec
from fscdata.negatives.parsing import load_parser
import spacy
nlp = spacy.load(load_parser().info.model_name, exclude=["ner", "lemmatizer"])
docs = [nlp.make_doc(text) for text in sys.stdin.read().split("|")]
FastTok2Vec(nlp.get_pipe("tok2vec").model)(docs)
print(hashlib.sha256(b"".join(doc.tensor.tobytes() for doc in docs)).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize("core", ["Prescott", "Haswell"])
def test_vectors_do_not_depend_on_the_processor(
    core: str, nlp, tok2vec: FastTok2Vec, captions: list[str]
) -> None:
    """OpenBLAS and numpy have a kernel per processor, each with its own order of summation."""
    texts = [caption for caption in captions if caption.isascii() and "|" not in caption]
    older = {"OPENBLAS_CORETYPE": core, "NPY_DISABLE_CPU_FEATURES": "X86_V4"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DIGEST],
        input="|".join(texts),
        env=os.environ | older,
        capture_output=True,
        text=True,
        check=True,
    )
    ours = b"".join(tensor.tobytes() for tensor in tensors(nlp, tok2vec, texts))
    assert done.stdout.strip() == hashlib.sha256(ours).hexdigest()
