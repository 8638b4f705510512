"""The samples and negatives tables as flat arrays, small enough to be held and forked whole."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from torch import Tensor

from fscdata.contract import CLIP_BPE, FsckitError, open_dataset, shard_paths, styles_present
from fsctrain.model import Clip, end_positions, get_tokenizer, uses_clip_bpe

log = logging.getLogger("fsctrain")

_TEXTS_AT_ONCE = 8192
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Texts:
    """Token ids of many texts, start and end token included.

    Text i is ids[offsets[i] : offsets[i + 1]].
    """

    ids: NDArray[np.int32]
    offsets: Integers

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def cut(self, i: int, context_length: int) -> NDArray[np.int32]:
        """Text i; one longer than the context loses its tail but not its end token."""
        ids = self.ids[self.offsets[i] : self.offsets[i + 1]]
        if len(ids) > context_length:
            ids = np.append(ids[: context_length - 1], ids[-1])
        return ids


@dataclass(frozen=True)
class TrainingData:
    """One row a caption (R rows), in the order of the tars.

    Attributes:
        tars: the shards; `tar` [R] says in which of them a row's image lies.
        image_offset, image_size: [R] the image's byte range inside its tar.
        keys: [R] the samples' keys.
        captions: [R] their token ids.
        styles: the styles of negatives, N of them.
        negatives: the token ids of all negatives of all styles.
        variants: for each style [R, K]: which of `negatives` a caption has, −1 where none;
            those that there are come first.
        context_length: the model's; longer texts are cut.
    """

    tars: list[Path]
    tar: Integers
    image_offset: Integers
    image_size: Integers
    keys: pa.LargeStringArray
    captions: Texts
    styles: tuple[str, ...]
    negatives: Texts
    variants: list[Integers]
    context_length: int

    def __len__(self) -> int:
        return len(self.captions)

    def key(self, row: int) -> str:
        return str(self.keys[row].as_py())

    def negative(self, style: int, row: int, epoch: int) -> int:
        """Which of `negatives` a caption gets in an epoch, −1 for none: variant epoch mod K."""
        of_row = self.variants[style][row]
        count = int((of_row >= 0).sum())
        return int(of_row[epoch % count]) if count else -1

    def coverage(self) -> dict[str, float]:
        """The share of captions that have a negative of each style."""
        return {
            style: float((index >= 0).any(1).mean())
            for style, index in zip(self.styles, self.variants, strict=True)
        }


def read_data(data: Path, styles: tuple[str, ...], clip: Clip) -> TrainingData:
    """Read a data set's tables for a model.

    Token ids come from the tables where these were made with the model's tokenizer; else captions
    and negatives are tokenized here.

    Raises:
        FsckitError: as `fscdata.contract.open_dataset`; no captions; token ids that are missing
            or beyond the model's vocabulary.
    """
    log.info("checking %s tars of %s", f"{len(shard_paths(data)):,}", data)
    dataset = open_dataset(data, list(styles))
    samples = dataset.samples
    rows = [len(table) for table in samples]
    if not sum(rows):
        raise FsckitError(
            f"{data}: its samples tables hold no caption; there is nothing to train on"
        )
    stored = dataset.tokenizer == CLIP_BPE and uses_clip_bpe(clip)
    if not stored:
        log.info(
            "tokenizing %s captions and their negatives: the tables have no token ids for %s",
            f"{sum(rows):,}",
            clip.name,
        )
    texts = _stored_texts if stored else _tokenizing(clip)
    tables = [table for style in styles for table in dataset.negatives[style]]
    captions = texts([table["caption"] for table in samples], [t["token_ids"] for t in samples])
    negatives = texts([t["negative"] for t in tables], [t["token_ids"] for t in tables])
    _check_ids(data, clip, captions, negatives)
    starts = np.cumsum([0, *rows])
    variants, first = [], 0
    for style in styles:
        variants.append(_variants(samples, dataset.negatives[style], starts, first))
        first += sum(len(table) for table in dataset.negatives[style])
    return TrainingData(
        tars=dataset.tars,
        tar=np.repeat(np.arange(len(rows)), rows),
        image_offset=_numpy(samples, "image_offset"),
        image_size=_numpy(samples, "image_size"),
        keys=pa.concat_arrays(
            [c for t in samples for c in t["key"].cast(pa.large_string()).chunks]
        ),
        captions=captions,
        styles=styles,
        negatives=negatives,
        variants=variants,
        context_length=int(clip.model.context_length),
    )


def _numpy(tables: list[pa.Table], column: str) -> Integers:
    return np.concatenate([table[column].to_numpy() for table in tables])


def _variants(
    samples: list[pa.Table], negatives: list[pa.Table], starts: Integers, first: int
) -> Integers:
    """One style's [R, K]: each caption's negatives by variant, joined by (key, caption_index).

    `starts` are the first rows of the shards, `first` the number of the style's first negative.
    """
    names = ["key", "caption_index"]
    parts = []
    for shard, (left, right) in enumerate(zip(samples, negatives, strict=True)):
        row = pa.array(np.arange(len(left)) + starts[shard])
        number = pa.array(np.arange(len(right)) + first)
        first += len(right)
        joined = (
            right.select([*names, "variant"])
            .append_column("number", number)
            .join(left.select(names).append_column("row", row), keys=names, join_type="inner")
        )
        parts.append([joined[c].to_numpy() for c in ("row", "variant", "number")])
    row, variant, number = (np.concatenate(c) for c in zip(*parts, strict=True))
    order = np.lexsort((variant, row))
    row, number = row[order], number[order]
    # A negative's place among those of its row: its own place less that of the row's first.
    place = np.arange(len(row)) - np.searchsorted(row, row, side="left")
    index = np.full((starts[-1], place.max(initial=-1) + 1), -1)
    index[row, place] = number
    return index


def _stored_texts(strings: list[pa.ChunkedArray], ids: list[pa.ChunkedArray]) -> Texts:
    """The tables' own token ids."""
    flat = [pc.list_flatten(column).to_numpy() for column in ids]
    lengths = [pc.fill_null(pc.list_value_length(column), 0).to_numpy() for column in ids]
    return _texts(flat, lengths)


def _tokenizing(clip: Clip) -> Callable[[list[pa.ChunkedArray], list[pa.ChunkedArray]], Texts]:
    """Token ids by the model's tokenizer, as far as the end token."""
    tokenize = get_tokenizer(clip)

    def texts(strings: list[pa.ChunkedArray], ids: list[pa.ChunkedArray]) -> Texts:
        flat: list[NDArray[Any]] = []
        lengths: list[NDArray[Any]] = []
        for column in strings:
            for start in range(0, len(column), _TEXTS_AT_ONCE):
                tokens: Tensor = tokenize(column[start : start + _TEXTS_AT_ONCE].to_pylist())
                length = end_positions(clip.model, tokens) + 1  # [n]
                flat.append(tokens[_within(length, tokens.shape[1])].numpy())
                lengths.append(length.numpy())
        return _texts(flat, lengths)

    return texts


def _within(lengths: Tensor, width: int) -> Tensor:
    """Mask [n, width] of the positions before each length [n]."""
    return lengths.new_ones(width).cumsum(0)[None] <= lengths[:, None]


def _texts(flat: list[NDArray[Any]], lengths: list[NDArray[Any]]) -> Texts:
    none = np.zeros(0, np.int64)
    offsets = np.cumsum(np.concatenate([[0], *lengths]), dtype=np.int64)
    return Texts(np.concatenate([none, *flat]).astype(np.int32), offsets)


def _check_ids(data: Path, clip: Clip, *texts: Texts) -> None:
    vocabulary = int(clip.model.vocab_size)
    for text in texts:
        if len(text) and int(np.diff(text.offsets).min()) < 2:
            recipe = ",".join(styles_present(data)) or "RECIPE"
            raise FsckitError(
                f"{data}: a text of its tables has no token ids; run 'fscdata make-negatives "
                f"{data} --recipe {recipe} --overwrite'"
            )
        if int(text.ids.max(initial=0)) >= vocabulary:
            raise FsckitError(
                f"{data}: token id {text.ids.max()} is beyond the vocabulary of model {clip.name} "
                f"({vocabulary}); set vocab_size in its text_cfg"
            )
