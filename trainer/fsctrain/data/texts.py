"""Token ids of many texts in two flat arrays, from the tables or from the model's tokenizer."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from torch import Tensor

from fscdata.base.errors import FsckitError
from fscdata.base.paths import DataPath
from fscdata.contract import CLIP_BPE, styles_present
from fsctrain.model import Clip, end_positions, get_tokenizer, uses_clip_bpe
from fsctrain.model.create import Tokenizer

log = logging.getLogger("fsctrain")

_BATCH = 8192


@dataclass(frozen=True)
class Texts:
    """Token ids of many texts, including start and end tokens.

    Text i is ids[offsets[i] : offsets[i + 1]].
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def truncated(self, i: int, context_length: int) -> NDArray[np.int32]:
        """Text i, truncated to the context but keeping its end token."""
        ids = self.ids[self.offsets[i] : self.offsets[i + 1]]
        if len(ids) > context_length:
            ids = np.append(ids[: context_length - 1], ids[-1])
        return ids

    def digests(self, context_length: int) -> NDArray[np.uint64]:
        """A hash [len(self)] of each text as `truncated` returns it, to compare many texts."""
        parts = [
            self._digests(first, min(first + _BATCH, len(self)), context_length)
            for first in range(0, len(self), _BATCH)
        ]
        return np.concatenate([np.zeros(0, np.uint64), *parts])

    def _digests(self, first: int, stop: int, context_length: int) -> NDArray[np.uint64]:
        """The hashes of texts `first` to `stop`."""
        starts = self.offsets[first:stop] - self.offsets[first]
        lengths = np.diff(self.offsets[first : stop + 1])
        ids = self.ids[self.offsets[first] : self.offsets[stop]].astype(np.uint64)
        position = np.arange(len(ids)) - np.repeat(starts, lengths)
        is_end = position == np.repeat(lengths - 1, lengths)
        kept = is_end | (position < context_length - 1)
        # The end token of a truncated text moves to the last position of the context.
        place = np.minimum(position, context_length - 1).astype(np.uint64)
        # A sum of well mixed bits (the finalizer of MurmurHash3) per (id, place).
        mixed = (place << np.uint64(32) | ids) + np.uint64(1)
        for factor in (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)):
            mixed = (mixed ^ (mixed >> np.uint64(33))) * factor
        mixed ^= mixed >> np.uint64(33)
        return np.add.reduceat(mixed * kept, starts)


def concatenate_texts(parts: list[Texts]) -> Texts:
    """The texts of all parts, one after the other."""
    return _texts([part.ids for part in parts], [np.diff(part.offsets) for part in parts])


@dataclass(frozen=True)
class TextReader:
    """Reads token ids for one model from a data set's tables.

    Attributes:
        data: the data set, for messages.
        clip: the model.
        tokenize: the model's tokenizer; None to use the tables' token ids.
    """

    data: DataPath
    clip: Clip
    tokenize: Tokenizer | None

    def read(self, strings: list[pa.ChunkedArray], ids: list[pa.ChunkedArray]) -> Texts:
        """Token ids up to the end token, from columns of texts and of token ids.

        Raises:
            FsckitError: ids are missing or beyond the model's vocabulary.
        """
        if self.tokenize is None:
            flat = [pc.list_flatten(column).to_numpy() for column in ids]
            lengths = [pc.fill_null(pc.list_value_length(column), 0).to_numpy() for column in ids]
        else:
            flat, lengths = _tokenized(strings, self.tokenize, self.clip)
        texts = _texts(flat, lengths)
        _check_ids(self.data, self.clip, texts)
        return texts


def text_reader(data: DataPath, clip: Clip, tokenizer: str | None) -> TextReader:
    """A reader for the tables of `data`, which were made with `tokenizer`."""
    if tokenizer == CLIP_BPE and uses_clip_bpe(clip):
        return TextReader(data, clip, None)
    log.info(
        "tokenizing the captions and negatives of %s: the tables have no token ids for %s",
        data,
        clip.name,
    )
    return TextReader(data, clip, get_tokenizer(clip))


def _tokenized(
    strings: list[pa.ChunkedArray], tokenize: Tokenizer, clip: Clip
) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    flat: list[NDArray[Any]] = []
    lengths: list[NDArray[Any]] = []
    for column in strings:
        for start in range(0, len(column), _BATCH):
            tokens: Tensor = tokenize(column[start : start + _BATCH].to_pylist())
            length = end_positions(clip.model, tokens) + 1  # [n]
            flat.append(tokens[_within(length, tokens.shape[1])].numpy())
            lengths.append(length.numpy())
    return flat, lengths


def _within(lengths: Tensor, width: int) -> Tensor:
    """Mask [n, width] of the positions before each length [n]."""
    return lengths.new_ones(width).cumsum(0)[None] <= lengths[:, None]


def _texts(flat: list[NDArray[Any]], lengths: list[NDArray[Any]]) -> Texts:
    none = np.zeros(0, np.int64)
    offsets = np.cumsum(np.concatenate([[0], *lengths]), dtype=np.int64)
    return Texts(np.concatenate([none, *flat]).astype(np.int32), offsets)


def _check_ids(data: DataPath, clip: Clip, texts: Texts) -> None:
    vocabulary = int(clip.model.vocab_size)
    if len(texts) and int(np.diff(texts.offsets).min()) < 2:
        recipe = ",".join(styles_present(data)) or "RECIPE"
        raise FsckitError(
            f"{data}: the tables contain a text without token ids; run 'fscdata make-negatives "
            f"{data} --recipe {recipe} --overwrite'"
        )
    if int(texts.ids.max(initial=0)) >= vocabulary:
        raise FsckitError(
            f"{data}: token id {texts.ids.max()} is beyond the vocabulary of model {clip.name} "
            f"({vocabulary}); set vocab_size in its text_cfg"
        )
