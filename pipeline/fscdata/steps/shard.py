"""One shard: from a tar to its samples and negatives tables. This is what runs in a worker.

A table's metadata lies in its footer, which is written last, and the file gets its name when it is
whole; so a table is its own record of being done.
"""

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
    Metadata,
    Provenance,
    ShardRecord,
    TarIndex,
    TarSample,
    caption_hash,
    index_tar,
    write_parquet,
)
from fscdata.negatives.draw import draws
from fscdata.negatives.model import MAX_CHARACTERS
from fscdata.negatives.parse import Parse
from fscdata.negatives.style import Caption, Negative, Style, seed_key
from fscdata.steps.plan import Plan, Settings
from fscdata.steps.tables import Row, negatives_table, samples_table
from fscdata.tokenizer import ClipTokenizer, tokenizer_of

Item = tuple[str, int, str, list[str]]  # key, caption_index, caption, its published negatives
CHUNK = 2048  # captions whose negatives are Python objects before they are Arrow's


@dataclass
class ShardReport:
    """What was made of one shard; `key_hashes` [samples] uint64 are there to find a key twice."""

    made: bool = False
    captions: int = 0
    negatives: Counter[str] = field(default_factory=Counter)
    without: Counter[tuple[str, str]] = field(default_factory=Counter)  # by style and reason
    left_out: Counter[str] = field(default_factory=Counter)
    written: int = 0
    key_hashes: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))


@dataclass(frozen=True)
class MakeShard:
    """The step: makes the tables of one shard that are missing, made otherwise or older than its
    tar. `provenances` are the driver's, which a worker elsewhere has to share."""

    data: DataPath
    settings: Settings
    provenances: dict[str | None, Provenance]

    def __call__(self, tar: DataPath, tick: Callable[[int, int], None]) -> ShardReport:
        """`tick` hears of captions done and captions in all.

        Raises:
            FsckitError: the tar cannot be read, a table not be written, or this worker would make
                the tables otherwise than the driver.
        """
        plan = Plan(self.data, self.settings)
        if plan.provenances != self.provenances:
            raise FsckitError(
                "a worker has other versions of fsckit, its libraries or model than the driver; "
                "install the same on every machine"
            )
        index = index_tar(tar, self.settings.captions)
        report = ShardReport(key_hashes=_key_hashes(index))
        if missing := plan.missing(tar, index):
            report.made = True
            report.left_out.update(index.without)
            with _collector_at_rest():
                _make(plan, tar, index, missing, report, tick)
        return report


def _make(
    plan: Plan,
    tar: DataPath,
    index: TarIndex,
    missing: list[str | None],
    report: ShardReport,
    tick: Callable[[int, int], None],
) -> None:
    captions = items(index.samples)
    report.captions = len(captions)
    record = ShardRecord(
        tar.name, size_of(tar), index.digest, index.captions_digest, 0, len(captions)
    )
    files = plan.tables(tar.stem)
    styles = [plan.styles[name] for name in missing if name is not None]
    parts: dict[str, list[pa.Table]] = {style.name: [] for style in styles}
    done = 0
    for chunk in chunks(plan, styles, captions, report.without):
        done += chunk.captions
        tick(done, len(captions))
        for name, table in chunk.tables.items():
            parts[name].append(table)
    for style in styles:
        table = pa.concat_tables(parts.pop(style.name))
        without = {r: n for (name, r), n in sorted(report.without.items()) if name == style.name}
        shard = replace(record, rows=table.num_rows, without=without)
        metadata = Metadata(plan.provenances[style.name], shard)
        report.written += write_parquet(files[style.name], table, metadata)
        report.negatives[style.name] = table.num_rows
    if None in missing:
        table = samples_table(index, _tokenizer(plan))
        shard = replace(record, rows=table.num_rows, without=index.without)
        metadata = Metadata(plan.provenances[None], shard)
        report.written += write_parquet(files[None], table, metadata)


def items(samples: list[TarSample]) -> list[Item]:
    """The captions of samples, in the order of the tar."""
    return [
        (sample.key, caption_index, text, sample.published.get(caption_index, []))
        for sample in samples
        for caption_index, text in sample.captions
    ]


@dataclass
class Chunk:
    """The negatives of some captions, by style."""

    captions: int
    tables: dict[str, pa.Table]


def chunks(
    plan: Plan,
    styles: list[Style],
    captions: list[Item],
    without: Counter[tuple[str, str]],
    size: int = CHUNK,
) -> Iterator[Chunk]:
    """The negatives of the captions, `size` captions at a time; at least one chunk.

    Captions without any are counted in `without` by style and reason.
    """
    parses = _parses(styles, [text for _, _, text, _ in captions])
    tokenizer = _tokenizer(plan)
    for start in range(0, max(1, len(captions)), size):
        chunk = captions[start : start + size]
        given = [
            Caption(text, parse, published)
            for (_, _, text, published), parse in zip(chunk, parses, strict=False)
        ]
        places = [(key, index, caption_hash(text)) for key, index, text, _ in chunk]
        tables = {}
        for style in styles:
            rows: list[Row] = []
            found = _negatives(style, given, plan.settings)
            for place, negatives in zip(places, found, strict=True):
                if isinstance(negatives, str):
                    without[style.name, negatives] += 1
                else:
                    rows += [(*place, variant, n) for variant, n in enumerate(negatives)]
            tables[style.name] = negatives_table(rows, tokenizer)
        yield Chunk(len(chunk), tables)


def _negatives(
    style: Style, captions: list[Caption], settings: Settings
) -> Iterator[list[Negative] | str]:
    """Of each caption its negatives, or the reason why it has none."""
    common = seed_key(settings.seed, style)
    keys = []
    for caption in captions:
        keys.append(key := common.copy())
        key.update(caption.text.encode())
    for caption, draw in zip(captions, draws(keys), strict=True):
        if style.uses_parse and caption.parse is None:
            yield f"longer than {MAX_CHARACTERS} characters"
        else:
            yield style.negatives(caption, draw, settings.variants)


def _parses(styles: list[Style], texts: list[str]) -> Iterator[Parse | None]:
    """One parse a text, None where the text is too long or no style needs parses."""
    if not any(style.uses_parse for style in styles):
        yield from (None for _ in texts)
        return
    from fscdata.negatives.parsing import load_parser  # noqa: PLC0415 (spaCy takes a second)

    parses = load_parser().parse(text for text in texts if len(text) <= MAX_CHARACTERS)
    for text in texts:
        yield next(parses) if len(text) <= MAX_CHARACTERS else None


@cache
def _clip_tokenizer() -> ClipTokenizer:
    return ClipTokenizer()


def _tokenizer(plan: Plan) -> ClipTokenizer | None:
    return _clip_tokenizer() if tokenizer_of(plan.settings.tokenizer) else None


def _key_hashes(index: TarIndex) -> NDArray[np.uint64]:
    """The same hash as a caption's, of the samples' keys."""
    return np.fromiter((caption_hash(s.key) for s in index.samples), np.uint64)


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """No garbage collection: in search of circles it would go through every negative again and
    again, a tenth of the time, and there are none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
