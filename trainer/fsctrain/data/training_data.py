"""The samples and negatives tables as flat arrays, which forked workers share."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from tarfile import BLOCKSIZE

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fscdata.base.errors import FsckitError
from fscdata.base.parallel import parallel_map
from fscdata.base.paths import DataPath, data_path, size_of
from fscdata.base.text import printable
from fscdata.contract import Dataset, open_dataset, samples_path, shard_paths
from fsctrain.data.texts import TextReader, Texts, concatenate_texts, text_reader
from fsctrain.fields import normalize_folder
from fsctrain.model import Clip

log = logging.getLogger("fsctrain")

_NO_TOKENS = np.zeros(0, np.int32)
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Coverage:
    """What training can use of a style's negatives.

    Attributes:
        style: its name.
        captions: share of captions with a negative that differs from them within the context.
        variants: the number of negatives per caption that the tables were made with.
        unusable: share of negatives whose token ids equal their caption's, because the edit lies
            beyond the context or changes only the case; None if only the footers have been read.
            `captions` counts these too in that case.
    """

    style: str
    captions: float
    variants: int
    unusable: float | None = None


@dataclass(frozen=True)
class TrainingData:
    """One row per caption (R rows), in the order of the data sets and of their tars.

    Attributes:
        sizes: rows of each data set.
        weights: how often a row of each is seen per epoch.
        tars: the shards; `tar` [R] is the index of a row's shard.
        image_offset, image_size: [R] the image's byte range inside its tar.
        keys: [R] the samples' keys.
        captions: [R] their token ids.
        styles: the styles of negatives, N of them.
        negatives: the token ids of all negatives of all styles.
        variants: for each style [R, K], a caption's indices into `negatives`, padded with −1 at the
            right.
        made_with: for each style, the number of negatives per caption that it was asked for.
        context_length: longer texts are truncated.
    """

    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    tars: list[DataPath]
    tar: Integers
    image_offset: Integers
    image_size: Integers
    keys: pa.LargeStringArray
    captions: Texts
    styles: tuple[str, ...]
    negatives: Texts
    variants: list[NDArray[np.int32]]
    made_with: tuple[int, ...]
    context_length: int

    def __len__(self) -> int:
        return len(self.captions)

    def key(self, row: int) -> str:
        return str(self.keys[row].as_py())

    def image_place(self, row: int) -> tuple[int, str, int, int]:
        """The location of its image, as arguments of `TarReader.read`."""
        tar, offset, size = self.tar[row], self.image_offset[row], self.image_size[row]
        return int(tar), self.key(row), int(offset), int(size)

    def image_starts(self) -> Integers:
        """[images + 1] the first row of each image; its captions are consecutive. The last is R."""
        changes = (np.diff(self.tar) != 0) | (np.diff(self.image_offset) != 0)
        return np.concatenate([[0], np.flatnonzero(changes) + 1, [len(self)]])

    def caption(self, row: int) -> NDArray[np.int32]:
        """Its token ids, truncated to the context."""
        return self.captions.truncated(row, self.context_length)

    def negatives_of(self, row: int, repeat: int) -> list[NDArray[np.int32]]:
        """The token ids of one negative per style; empty for a missing one.

        Pass number `repeat` takes variant repeat mod K of a caption's K variants, so that each
        epoch shows a different one.
        """
        chosen = []
        for variants in self.variants:
            indices = variants[row]
            count = int(np.count_nonzero(indices >= 0))
            if count:
                index = indices[repeat % count]
                chosen.append(self.negatives.truncated(index, self.context_length))
            else:
                chosen.append(_NO_TOKENS)
        return chosen

    def coverage(self) -> list[Coverage]:
        """What training can use of each style."""
        captions = self.captions.digests(self.context_length)
        negatives = self.negatives.digests(self.context_length)
        found = []
        for style, index, made in zip(self.styles, self.variants, self.made_with, strict=True):
            exists = index >= 0
            usable = exists & (negatives[index] != captions[:, None])
            unusable = (exists & ~usable).sum() / max(exists.sum(), 1)
            found.append(Coverage(style, float(usable.any(1).mean()), made, float(unusable)))
        return found


def read_data(
    folders: Sequence[str],
    weights: Sequence[float],
    styles: tuple[str, ...],
    clip: Clip,
    context_length: int | None = None,
) -> TrainingData:
    """Read the tables of one or more data sets for a model.

    Token ids come from the tables if they were made with the model's tokenizer; otherwise captions
    and negatives are tokenized here.

    Args:
        folders: the data sets, local or with a scheme (s3://…).
        weights: how often a caption of each is seen per epoch; empty means once each.
        styles: styles of negatives; every data set must have them.
        clip: the model.
        context_length: maximum tokens per text; None for the model's own maximum.

    Raises:
        FsckitError: as in `fscdata.contract.open_dataset`; a data set has no captions; token ids
            are missing or beyond the model's vocabulary; weights or folders are invalid.
    """
    weights = check_folders(folders, weights)
    context = check_context(clip, context_length)
    parts = []
    for folder, weight in zip(folders, weights, strict=True):
        data = data_path(folder)
        log.info("checking %s tars of %s", f"{len(shard_paths(data)):,}", data)
        dataset = open_dataset(data, list(styles))
        _check_places(data, dataset)
        texts = text_reader(data, clip, dataset.tokenizer)
        parts.append(join_tables(data, dataset, texts, context, weight))
    return parts[0] if len(parts) == 1 else _concatenate(parts)


def check_folders(folders: Sequence[str], weights: Sequence[float]) -> tuple[float, ...]:
    """The weight of each data set.

    Raises:
        FsckitError: the numbers of weights and data sets differ, or a data set is named twice.
    """
    if weights and len(weights) != len(folders):
        raise FsckitError(
            f"`data_weights` has {len(weights)} numbers for {len(folders)} data sets; set one each"
        )
    places = [normalize_folder(folder) for folder in folders]
    for folder, where in zip(folders, places, strict=True):
        if places.count(where) > 1:
            raise FsckitError(
                f"`data` lists {folder} twice; list it once, and set how often it is seen with "
                f"`data_weights`"
            )
    return tuple(weights) or (1.0,) * len(folders)


def check_context(clip: Clip, context_length: int | None) -> int:
    """The maximum number of tokens per text.

    Raises:
        FsckitError: the model has fewer positions.
    """
    positions = int(clip.model.context_length)
    if context_length is not None and context_length > positions:
        raise FsckitError(
            f"`context_length` {context_length} is more than the {positions} positions of model "
            f"{clip.name}; set {positions} or less"
        )
    return context_length or positions


def join_tables(
    data: DataPath,
    dataset: Dataset[DataPath],
    texts: TextReader,
    context_length: int,
    weight: float = 1.0,
) -> TrainingData:
    """The tables of one data set, or of some of its shards, as arrays.

    Raises:
        FsckitError: no captions; token ids are missing or beyond the model's vocabulary.
    """
    samples, styles = dataset.samples, tuple(dataset.negatives)
    rows = [len(table) for table in samples]
    if not sum(rows):
        raise FsckitError(f"{data}: the samples tables contain no captions to train on")
    tables = [table for style in styles for table in dataset.negatives[style]]
    captions = texts.read([t["caption"] for t in samples], [t["token_ids"] for t in samples])
    negatives = texts.read([t["negative"] for t in tables], [t["token_ids"] for t in tables])
    starts = np.cumsum([0, *rows])
    variants, first = [], 0
    for style in styles:
        variants.append(_variants(samples, dataset.negatives[style], starts, first))
        first += sum(len(table) for table in dataset.negatives[style])
    return TrainingData(
        sizes=(sum(rows),),
        weights=(weight,),
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
        made_with=tuple(dataset.variants[style] for style in styles),
        context_length=context_length,
    )


def _check_places(data: DataPath, dataset: Dataset[DataPath]) -> None:
    """Raise FsckitError if a table places an image outside its tar."""
    sizes = parallel_map(size_of, dataset.tars)
    for tar, size, table in zip(dataset.tars, sizes, dataset.samples, strict=True):
        offset, length = (table[name].to_numpy() for name in ("image_offset", "image_size"))
        outside = np.flatnonzero((offset < BLOCKSIZE) | (length < 1) | (length > size - offset))
        if len(outside):
            row = int(outside[0])
            raise FsckitError(
                f"{samples_path(data, tar.stem)}: places the image of sample "
                f"'{printable(table['key'][row].as_py())}' outside its tar ({length[row]} bytes at "
                f"byte {offset[row]} of {size}); run 'fscdata make-negatives {data} --recipe "
                f"RECIPE --overwrite'"
            )


def _concatenate(parts: list[TrainingData]) -> TrainingData:
    """Concatenate several data sets."""
    tars = np.cumsum([0, *(len(part.tars) for part in parts)])
    numbers = np.cumsum([0, *(len(part.negatives) for part in parts)])
    return TrainingData(
        sizes=tuple(len(part) for part in parts),
        weights=tuple(part.weights[0] for part in parts),
        tars=[tar for part in parts for tar in part.tars],
        tar=np.concatenate([p.tar + first for p, first in zip(parts, tars[:-1], strict=True)]),
        image_offset=np.concatenate([part.image_offset for part in parts]),
        image_size=np.concatenate([part.image_size for part in parts]),
        keys=pa.concat_arrays([part.keys for part in parts]),
        captions=concatenate_texts([part.captions for part in parts]),
        styles=parts[0].styles,
        negatives=concatenate_texts([part.negatives for part in parts]),
        variants=[
            _concatenate_variants([part.variants[style] for part in parts], numbers[:-1])
            for style in range(len(parts[0].styles))
        ],
        made_with=tuple(map(min, zip(*(part.made_with for part in parts), strict=True))),
        context_length=parts[0].context_length,
    )


def _concatenate_variants(parts: list[NDArray[np.int32]], firsts: Integers) -> NDArray[np.int32]:
    """One style's [R, K] for all data sets; `firsts` are the indices of their first negatives."""
    joined = np.full((sum(map(len, parts)), max(part.shape[1] for part in parts)), -1, np.int32)
    row = 0
    for part, first in zip(parts, firsts, strict=True):
        target = joined[row : row + len(part), : part.shape[1]]
        target[:] = np.where(part >= 0, part + first, -1)
        row += len(part)
    return joined


def _numpy(tables: list[pa.Table], column: str) -> Integers:
    return np.concatenate([table[column].to_numpy() for table in tables])


def _variants(
    samples: list[pa.Table], negatives: list[pa.Table], starts: Integers, first: int
) -> NDArray[np.int32]:
    """One style's [R, K]: each caption's negatives by variant, joined by (key, caption_index).

    `starts` are the first rows of the shards, `first` is the index of the style's first negative.
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
    # A negative's column: its position among its row's negatives.
    column = np.arange(len(row)) - np.searchsorted(row, row, side="left")
    index = np.full((starts[-1], column.max(initial=-1) + 1), -1, np.int32)
    index[row, column] = number
    return index
