"""The samples and negatives tables as flat arrays, small enough to be held and forked whole."""

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
from fsctrain.data.texts import TextReader, Texts, join_texts, text_reader
from fsctrain.fields import normalize_folder
from fsctrain.model import Clip

log = logging.getLogger("fsctrain")

_EMPTY = np.zeros(0, np.int32)
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class TrainingData:
    """One row a caption (R rows), in the order of the data sets and of their tars.

    Attributes:
        sizes: rows of each data set.
        weights: how often a row of each is seen in an epoch.
        tars: the shards; `tar` [R] says in which of them a row's image lies.
        image_offset, image_size: [R] the image's byte range inside its tar.
        keys: [R] the samples' keys.
        captions: [R] their token ids.
        styles: the styles of negatives, N of them.
        negatives: the token ids of all negatives of all styles.
        variants: for each style [R, K]: which of `negatives` a caption has, −1 where none;
            those that there are come first.
        context_length: longer texts are cut.
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
    context_length: int

    def __len__(self) -> int:
        return len(self.captions)

    def key(self, row: int) -> str:
        return str(self.keys[row].as_py())

    def caption(self, row: int) -> NDArray[np.int32]:
        """Its token ids, cut to the context."""
        return self.captions.cut(row, self.context_length)

    def negatives_of(self, row: int, turn: int) -> list[NDArray[np.int32]]:
        """The token ids of one negative a style when the caption is seen for the time number
        `turn`: variant turn mod K, empty where there is none.
        """
        found = []
        for variants in self.variants:
            of_row = variants[row]
            count = int(np.count_nonzero(of_row >= 0))
            number = of_row[turn % count] if count else -1
            found.append(self.negatives.cut(number, self.context_length) if count else _EMPTY)
        return found

    def coverage(self) -> dict[str, float]:
        """The share of captions that have a negative of each style."""
        return {
            style: float((index >= 0).any(1).mean())
            for style, index in zip(self.styles, self.variants, strict=True)
        }


def read_data(
    folders: Sequence[str],
    weights: Sequence[float],
    styles: tuple[str, ...],
    clip: Clip,
    context_length: int | None = None,
) -> TrainingData:
    """Read the tables of one or several data sets for a model.

    Token ids come from the tables where these were made with the model's tokenizer; else captions
    and negatives are tokenized here.

    Args:
        folders: the data sets, local or with a scheme (s3://…).
        weights: how often a caption of each is seen in an epoch; none: once each.
        styles: of the negatives, which every data set must have.
        clip: the model.
        context_length: tokens that a text is cut to; None: the model's own number.

    Raises:
        FsckitError: as `fscdata.contract.open_dataset`; no captions; token ids that are missing
            or beyond the model's vocabulary; weights or folders that cannot be.
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
    return parts[0] if len(parts) == 1 else _one_after_the_other(parts)


def check_folders(folders: Sequence[str], weights: Sequence[float]) -> tuple[float, ...]:
    """The weight of each data set.

    Raises:
        FsckitError: another number of weights than of data sets; one named twice.
    """
    if weights and len(weights) != len(folders):
        raise FsckitError(
            f"--data-weights: {len(weights)} numbers for {len(folders)} data sets; give one each"
        )
    places = [normalize_folder(folder) for folder in folders]
    for folder, where in zip(folders, places, strict=True):
        if places.count(where) > 1:
            raise FsckitError(
                f"--data {folder}: the data set is named twice; name it once, and set how often it "
                f"is seen with --data-weights"
            )
    return tuple(weights) or (1.0,) * len(folders)


def check_context(clip: Clip, context_length: int | None) -> int:
    """The number of tokens that texts are cut to.

    Raises:
        FsckitError: more than the model has positions for.
    """
    most = int(clip.model.context_length)
    if context_length is not None and context_length > most:
        raise FsckitError(
            f"--context-length {context_length}: model {clip.name} has {most} positions; give at "
            f"most that many"
        )
    return context_length or most


def join_tables(
    data: DataPath,
    dataset: Dataset[DataPath],
    texts: TextReader,
    context_length: int,
    weight: float = 1.0,
) -> TrainingData:
    """The tables of one data set, or of some of its shards, as arrays.

    Raises:
        FsckitError: no captions; token ids that are missing or beyond the model's vocabulary.
    """
    samples, styles = dataset.samples, tuple(dataset.negatives)
    rows = [len(table) for table in samples]
    if not sum(rows):
        raise FsckitError(
            f"{data}: its samples tables hold no caption; there is nothing to train on"
        )
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
        context_length=context_length,
    )


def _check_places(data: DataPath, dataset: Dataset[DataPath]) -> None:
    """Raises FsckitError where a picture is said to lie outside its tar."""
    sizes = parallel_map(size_of, dataset.tars)
    for tar, size, table in zip(dataset.tars, sizes, dataset.samples, strict=True):
        offset, length = (table[name].to_numpy() for name in ("image_offset", "image_size"))
        outside = np.flatnonzero((offset < BLOCKSIZE) | (length < 1) | (length > size - offset))
        if len(outside):
            row = int(outside[0])
            raise FsckitError(
                f"{samples_path(data, tar.stem)}: the picture of sample "
                f"'{printable(table['key'][row].as_py())}' is said to be {length[row]} bytes long "
                f"at byte {offset[row]} of a tar of {size} bytes; run 'fscdata make-negatives "
                f"{data} --recipe RECIPE --overwrite'"
            )


def _one_after_the_other(parts: list[TrainingData]) -> TrainingData:
    """Several data sets as one."""
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
        captions=join_texts([part.captions for part in parts]),
        styles=parts[0].styles,
        negatives=join_texts([part.negatives for part in parts]),
        variants=[
            _joined_variants([part.variants[style] for part in parts], numbers[:-1])
            for style in range(len(parts[0].styles))
        ],
        context_length=parts[0].context_length,
    )


def _joined_variants(parts: list[NDArray[np.int32]], firsts: Integers) -> NDArray[np.int32]:
    """One style's [R, K] of all data sets; `firsts` are the numbers of their first negatives."""
    joined = np.full((sum(map(len, parts)), max(part.shape[1] for part in parts)), -1, np.int32)
    row = 0
    for part, first in zip(parts, firsts, strict=True):
        place = joined[row : row + len(part), : part.shape[1]]
        place[:] = np.where(part >= 0, part + first, -1)
        row += len(part)
    return joined


def _numpy(tables: list[pa.Table], column: str) -> Integers:
    return np.concatenate([table[column].to_numpy() for table in tables])


def _variants(
    samples: list[pa.Table], negatives: list[pa.Table], starts: Integers, first: int
) -> NDArray[np.int32]:
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
    index = np.full((starts[-1], place.max(initial=-1) + 1), -1, np.int32)
    index[row, place] = number
    return index
