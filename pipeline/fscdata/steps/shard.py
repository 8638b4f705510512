"""Makes the samples and negatives tables of one shard; this code runs in the workers."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fscdata.base.errors import FsckitError
from fscdata.base.paths import DataPath, size_of
from fscdata.contract import (
    SAMPLES,
    Metadata,
    Provenance,
    ShardRecord,
    TarIndex,
    TarSample,
    caption_hash,
    index_tar,
    write_parquet,
)
from fscdata.negatives.style import Caption, Style
from fscdata.steps.expected import ExpectedTables, Settings
from fscdata.steps.generate import parse_captions, style_negatives
from fscdata.steps.to_arrow import Row, negatives_table, samples_table
from fscdata.tokenizer import ClipTokenizer, tokenizer_of

Item = tuple[str, int, str, list[str]]  # key, caption_index, caption, its published negatives
CHUNK = 2048  # captions converted to Arrow at a time: bounds the negatives held as Python objects


@dataclass
class ShardReport:
    """What was made for one shard.

    Attributes:
        made: False if all tables existed already.
        finished: rows of the tables that existed already, by the tables' names.
        captions, negatives: how many were made, negatives by style.
        without: captions without a negative, by (style, reason).
        left_out: samples and captions left out of the samples table, by reason.
        written: bytes written.
        key_hashes: [samples] hashes of the keys, to find keys shared by two shards.
    """

    made: bool = False
    finished: Counter[str] = field(default_factory=Counter)
    captions: int = 0
    negatives: Counter[str] = field(default_factory=Counter)
    without: Counter[tuple[str, str]] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    written: int = 0
    key_hashes: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))


@dataclass(frozen=True)
class MakeShard:
    """The step of make-negatives: makes the missing and outdated tables of one shard.

    `provenances` are the driver's; each worker must compute the same ones.
    """

    data: DataPath
    settings: Settings
    provenances: dict[str, Provenance]

    def __call__(self, tar: DataPath, tick: Callable[[int, int], None]) -> ShardReport:
        """Make the tables of a tar; `tick` is called with (captions done, total).

        Raises:
            FsckitError: the tar cannot be read, a table cannot be written, or this worker's
                provenances differ from the driver's.
        """
        expected = ExpectedTables(self.data, self.settings)
        if expected.provenances != self.provenances:
            raise FsckitError(
                "a worker's versions of fsckit, its libraries or its model differ from the "
                "driver's; install the same versions on every machine"
            )
        index = index_tar(tar, self.settings.captions)
        finished = expected.finished(tar, index)
        missing = [name for name in expected.provenances if name not in finished]
        report = ShardReport(finished=Counter(finished), key_hashes=_key_hashes(index))
        if missing:
            with _garbage_collection_paused():
                _make(expected, tar, index, missing, report, tick)
        return report


def _make(
    expected: ExpectedTables,
    tar: DataPath,
    index: TarIndex,
    missing: list[str],
    report: ShardReport,
    tick: Callable[[int, int], None],
) -> None:
    """Make the missing tables of a shard, and add them to its report."""
    captions = items(index.samples)
    report.made, report.captions = True, len(captions)
    report.left_out = Counter(index.without)
    record = ShardRecord(
        tar.name, size_of(tar), index.digest, index.captions_digest, 0, len(captions)
    )
    paths = expected.paths(tar.stem)
    styles = [expected.styles[name] for name in missing if name != SAMPLES]
    parts: dict[str, list[pa.Table]] = {style.name: [] for style in styles}
    done = 0
    for chunk in chunks(expected, styles, captions):
        done += chunk.captions
        tick(done, len(captions))
        report.without.update(chunk.without)
        for name, table in chunk.tables.items():
            parts[name].append(table)
    for style in styles:
        table = pa.concat_tables(parts.pop(style.name))
        without = {r: n for (name, r), n in sorted(report.without.items()) if name == style.name}
        shard = replace(record, rows=table.num_rows, without=without)
        metadata = Metadata(expected.provenances[style.name], shard)
        report.written += write_parquet(paths[style.name], table, metadata)
        report.negatives[style.name] = table.num_rows
    if SAMPLES in missing:
        table = samples_table(index, _tokenizer(expected))
        shard = replace(record, rows=table.num_rows, without=index.without)
        metadata = Metadata(expected.provenances[SAMPLES], shard)
        report.written += write_parquet(paths[SAMPLES], table, metadata)


def items(samples: list[TarSample]) -> list[Item]:
    """The captions of samples in tar order."""
    return [
        (sample.key, caption_index, text, sample.published.get(caption_index, []))
        for sample in samples
        for caption_index, text in sample.captions
    ]


@dataclass
class Chunk:
    """The negatives of some captions.

    Attributes:
        captions: the number of captions.
        tables: their negatives by style.
        without: captions without a negative, by (style, reason).
    """

    captions: int
    tables: dict[str, pa.Table] = field(default_factory=dict)
    without: Counter[tuple[str, str]] = field(default_factory=Counter)


def chunks(
    expected: ExpectedTables, styles: list[Style], captions: list[Item], size: int = CHUNK
) -> Iterator[Chunk]:
    """The negatives of the captions, `size` captions at a time; at least one chunk."""
    parses = parse_captions(styles, [text for _, _, text, _ in captions])
    tokenizer = _tokenizer(expected)
    for start in range(0, max(1, len(captions)), size):
        part = captions[start : start + size]
        given = [
            Caption(text, parse, published)
            for (_, _, text, published), parse in zip(part, parses, strict=False)
        ]
        places = [(key, index, caption_hash(text)) for key, index, text, _ in part]
        chunk = Chunk(len(part))
        for style in styles:
            rows: list[Row] = []
            results = style_negatives(
                style, given, expected.settings.seed, expected.variants(style)
            )
            for place, negatives in zip(places, results, strict=True):
                if isinstance(negatives, str):
                    chunk.without[style.name, negatives] += 1
                else:
                    rows += [(*place, variant, n) for variant, n in enumerate(negatives)]
            chunk.tables[style.name] = negatives_table(rows, tokenizer)
        yield chunk


@cache
def _clip_tokenizer() -> ClipTokenizer:
    return ClipTokenizer()


def _tokenizer(expected: ExpectedTables) -> ClipTokenizer | None:
    return _clip_tokenizer() if tokenizer_of(expected.settings.tokenizer) else None


def _key_hashes(index: TarIndex) -> NDArray[np.uint64]:
    """The samples' keys, hashed like captions."""
    return np.fromiter((caption_hash(s.key) for s in index.samples), np.uint64)


@contextmanager
def _garbage_collection_paused() -> Iterator[None]:
    """Pause Python's cycle collector: negatives contain no cycles, and visiting them repeatedly
    takes a tenth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
