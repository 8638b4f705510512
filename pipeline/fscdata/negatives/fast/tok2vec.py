"""The model's tok2vec and the parser's features in numpy: exact sums, cached words.

spaCy spends over half its parsing time on these. numpy's matrix products are three times faster,
but their rounding depends on a row's position in the batch. So they run in double precision on
numbers rounded to a grid: inputs are multiples of 2^-21, weights of about 2^-23. A sum of such
products fits in the 53 bits of a double and is exact in any order: a vector does not depend on the
batch, the BLAS, its threads or the machine. Its distance from spaCy's single-precision vector is
at most the rounding error of the latter.

Equality with spaCy's tags and trees is measured, not proved: 0 of 40,455 captions differ, and the
closest decision ("slip 'n' slide") has a margin of 7e-6, so do not coarsen the grid.
`tests/pipeline/negatives/fast/test_tok2vec.py` compares the two.

The network is spaCy's MultiHashEmbed and MaxoutWindowEncoder: a word's vector from its attributes,
then layers that see one token on either side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fscdata.negatives.model import without_torch

with without_torch():
    from spacy.tokens import Doc
    from thinc.api import Model

Array = NDArray[np.float64]
Rows = NDArray[np.intp]
_Model = Any  # thinc's Model; its parameters are arrays of any number of dimensions

_STEPS = 2.0**21  # grid steps per 1, for inputs of inner products
_PART_STEPS = 2.0**22  # grid steps per 1, for the parts cached as int32
_EXACT = 2.0**53  # a double represents smaller integers exactly
_MEMO_WORDS = 4_096  # 17 MB
_EPSILON = 1e-8  # thinc's layer norm


class FastTok2Vec:
    """Sets `doc.tensor`, for a tok2vec of hash embeddings and a window of one token per side."""

    def __init__(self, model: _Model) -> None:
        embed, encode = model.get_ref("embed"), model.get_ref("encode")
        tables = [node.get_param("E") for node in embed.walk() if node.name == "hashembed"]
        # A table contributes the sum of four of its rows to a word.
        longest = math.hypot(*(4 * np.linalg.norm(table, axis=1).max() for table in tables))
        (mixer,) = _maxouts(embed, longest, window=0)
        self._layers = _maxouts(encode, mixer.longest, window=1)
        self._words = _Words(embed, mixer, self._layers[0])
        self.longest = mixer.longest + sum(layer.longest for layer in self._layers)

    def __call__(self, docs: Sequence[Doc]) -> None:
        """Set the tensors of the docs, float32 [tokens, width]."""
        lengths = [len(doc) for doc in docs]
        if not any(lengths):
            return
        depth = len(self._layers)
        tokens, distance = _layout(lengths, depth)
        words = np.zeros(len(distance), dtype="intp")
        words[tokens] = self._words(docs)
        x = self._words.vectors[words]
        for i, layer in enumerate(self._layers, 1):
            rows = np.flatnonzero(distance <= depth - i)  # the rows that later layers read
            if i == 1:
                pieces = self._words.pieces(words, rows)
            else:
                window = np.take(np.rint(x * _STEPS), rows[:, None] + (-1, 0, 1), axis=0)
                pieces = layer.pieces(window.reshape(len(rows), -1))
            x[rows] += layer.choose(pieces)
        tensors = x[tokens].astype("float32")
        end = 0
        for doc, length in zip(docs, lengths, strict=True):
            doc.tensor = tensors[end : end + length]
            end += length


class _Maxout:
    """Maxout of three pieces, then layer norm; `longest` bounds the length of an output vector."""

    def __init__(self, maxout: _Model, norm: _Model, longest_input: float) -> None:
        weights = maxout.get_param("W").astype("float64")  # [width, 3, inputs]
        weights = weights.transpose(2, 1, 0).reshape(weights.shape[2], -1)
        self.weights = _on_grid(weights, longest_input)  # [inputs, 3 * width]
        self.bias = maxout.get_param("b").T.ravel().astype("float64")
        self._gain = norm.get_param("G").astype("float64")
        self._shift = norm.get_param("b").astype("float64")
        self.longest = math.sqrt(len(self._gain)) * abs(self._gain).max()
        self.longest += np.linalg.norm(self._shift)

    def pieces(self, steps: Array) -> Array:
        """The three pieces: inputs in grid steps [rows, inputs] → [rows, 3 * width]."""
        pieces: Array = steps @ self.weights
        pieces += self.bias
        return pieces

    def choose(self, pieces: Array) -> Array:
        """The maximum of the pieces, normalized: [rows, 3 * width] → [rows, width]."""
        first, second, third = np.split(pieces, 3, axis=1)
        y: Array = np.maximum(first, second)
        np.maximum(y, third, out=y)
        y -= y.mean(axis=1, keepdims=True)
        y /= np.sqrt(np.square(y).mean(axis=1, keepdims=True) + _EPSILON)
        y *= self._gain
        y += self._shift
        return y


def _maxouts(model: _Model, longest: float, window: int) -> list[_Maxout]:
    """The layers of a model; each sees a window of its inputs and is added to them."""
    names = ("maxout", "layernorm")
    nodes = ([node for node in model.walk() if node.name == name] for name in names)
    layers = []
    for maxout, norm in zip(*nodes, strict=True):
        layers.append(_Maxout(maxout, norm, math.sqrt(2 * window + 1) * longest))
        longest += layers[-1].longest
    return layers


class _Words:
    """Caches the vectors of words, and their parts of the first layer's sums."""

    def __init__(self, embed: _Model, mixer: _Maxout, first: _Maxout) -> None:
        columns, self._as_ragged, self._hashes, *_ = embed.layers
        self._columns = columns.attrs["columns"]
        self._mixer = mixer
        self._weights = first.weights.reshape(3, -1, first.weights.shape[1])
        self._bias = np.rint(first.bias * _PART_STEPS)
        longest = math.sqrt(3) * mixer.longest * _STEPS
        sums = longest * np.linalg.norm(first.weights, axis=0) + abs(first.bias)
        assert sums.max() * _PART_STEPS < 2**31 - 3, "the sum of three parts fits in 32 bits"
        self._forget(_MEMO_WORDS)

    def _forget(self, room: int) -> None:
        """Empty the cache; word 0 is the padding, a vector of zeros."""
        self._numbers: dict[bytes, int] = {}
        _, width, pieces = self._weights.shape
        self.vectors = np.zeros((room, width))
        self._parts = np.zeros((3, room, pieces), dtype="int32")  # before, here, after
        self._parts[1, 0] = self._bias

    def __call__(self, docs: Sequence[Doc]) -> Rows:
        """The number of each token's word; words are equal if the model's attributes are."""
        attributes = np.concatenate([doc.to_array(self._columns) for doc in docs])
        raw, size = attributes.tobytes(), attributes.itemsize * attributes.shape[1]
        keys = [raw[i : i + size] for i in range(0, len(raw), size)]
        new = {key: i for i, key in enumerate(keys) if key not in self._numbers}
        if len(self._numbers) + len(new) >= len(self.vectors):
            new = {key: i for i, key in enumerate(keys)}
            self._forget(max(_MEMO_WORDS, len(new) + 1))
        if new:
            self._learn(new, attributes[list(new.values())])
        return np.array([self._numbers[key] for key in keys])

    def _learn(self, keys: Iterable[bytes], attributes: NDArray[np.uint64]) -> None:
        hashed = self._hashes.predict(self._as_ragged.predict([attributes])).dataXd
        vectors = self._mixer.choose(self._mixer.pieces(np.rint(hashed * _STEPS)))
        parts = np.rint(np.rint(vectors * _STEPS) @ self._weights * _PART_STEPS)
        parts[1] += self._bias
        start = len(self._numbers) + 1
        end = start + len(attributes)
        self._numbers.update(zip(keys, range(start, end), strict=True))
        self.vectors[start:end] = vectors
        self._parts[:, start:end] = parts

    def pieces(self, words: Rows, rows: Rows) -> Array:
        """The first layer's `_Maxout.pieces` for `rows` of `words`, with their neighbours."""
        before, here, after = self._parts
        total = before[words[rows - 1]]
        total += here[words[rows]]
        total += after[words[rows + 1]]
        return total / _PART_STEPS


def use_exact_features(parser: _Model, longest: float) -> None:
    """Replace the parser's PrecomputableAffine with exact sums, for tensors up to `longest`.

    The features of a batch are overwritten by the next batch.
    """
    (linear,) = (node for node in parser.get_ref("tok2vec").walk() if node.name == "linear")
    longest = float(np.linalg.norm(linear.get_param("W"), 2) * longest)
    longest += float(np.linalg.norm(linear.get_param("b")))
    lower = parser.get_ref("lower")
    shape = lower.get_param("W").shape[:3]  # features, width, pieces
    weights = lower.get_param("W").reshape(-1, lower.get_dim("nI")).T.astype("float64")
    weights = _on_grid(weights, longest)
    output = np.empty((1, *shape), dtype="float32")

    def forward(_: _Model, x: NDArray[np.float32], is_train: bool) -> tuple[Any, None]:
        nonlocal output
        if len(output) <= len(x):
            output = np.empty((len(x) + 1, *shape), dtype="float32")
            output[0] = lower.get_param("pad")[0]
        features = output[: len(x) + 1]
        features[1:] = (np.rint(x * _STEPS) @ weights).reshape(-1, *shape)
        return features, None

    dims = {name: lower.get_dim(name) for name in lower.dim_names}
    params = {name: lower.get_param(name) for name in lower.param_names}
    parser.replace_node(lower, Model(lower.name, forward, dims=dims, params=params))


def _on_grid(weights: Array, longest: float) -> Array:
    """Round weights [inputs, outputs] to the finest grid with exact sums, for inputs in steps.

    By Cauchy-Schwarz, no partial sum exceeds the length of the inputs (at most `longest`) times the
    length of their weights.
    """
    largest = longest * _STEPS * np.linalg.norm(weights, axis=0).max()
    steps = 2.0 ** math.floor(math.log2(_EXACT / largest) - 1e-3)
    return np.rint(weights * steps) / (steps * _STEPS)


def _layout(lengths: list[int], depth: int) -> tuple[Rows, Rows]:
    """The rows of the tokens, with `depth` rows of zeros around each doc, as spaCy pads them.

    Returns the tokens' rows, and every row's distance from the nearest token.
    """
    starts = depth + np.concatenate(([0], np.cumsum(np.add(lengths, depth)))).astype("intp")
    rows = np.repeat(starts[:-1] - np.cumsum([0, *lengths[:-1]]), lengths) + np.arange(sum(lengths))
    distance = np.full(starts[-1], depth)
    for away in range(depth, -1, -1):  # nearer distances overwrite farther ones
        distance[rows - away] = distance[rows + away] = away
    return rows, distance
