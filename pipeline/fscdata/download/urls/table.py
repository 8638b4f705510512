"""Tables of addresses and captions: TSV, CSV and Parquet, one file or a folder of them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fscdata.base.errors import FsckitError
from fscdata.base.files import atomic_file
from fscdata.base.paths import access, entries
from fscdata.base.text import is_unicode, printable
from fscdata.manifest import TABLE_SUFFIXES

ROW = "table_row"  # the row's place in the table, from 0, a header not counted
BATCH = 65_536  # rows


@dataclass(frozen=True)
class Columns:
    """Where a table has what: `names` are those of a table without a header, `kept` goes along."""

    url: str = "url"
    caption: str | None = "caption"
    names: tuple[str, ...] | None = None
    kept: tuple[str, ...] = ()

    @property
    def wanted(self) -> list[str]:
        return [self.url, *([self.caption] if self.caption else []), *self.kept]

    @property
    def renamed(self) -> list[str]:
        return ["url", *(["caption"] if self.caption else []), *self.kept]


def read_batches(
    files: Sequence[Path], columns: Columns, skipped: Counter[str]
) -> Iterator[pa.RecordBatch]:
    """The rows to fetch: `table_row`, `url`, `caption` and the kept columns.

    Rows of which nothing can come are counted by reason in `skipped`.

    Raises:
        FsckitError: a file is missing, unreadable, lacks a column or has it of another type than
            the first file.
    """
    numbers = count()
    schema: pa.Schema | None = None
    for file in files:
        reader = _read_parquet if file.suffix.lower() == ".parquet" else _read_text
        try:
            with access(file, "read"):
                for batch in reader(file, columns, numbers, skipped):
                    schema = schema or batch.schema
                    yield _usable(_alike(file, batch, schema, files[0]), columns, skipped)
        except pa.ArrowException as error:
            why = printable(str(error).partition("\n")[0][:200])
            raise FsckitError(
                f"{file}: not a table that can be read ({why}); put a whole one there, or delete "
                f"one that was fetched and run the command again"
            ) from None


def _alike(file: Path, batch: pa.RecordBatch, schema: pa.Schema, first: Path) -> pa.RecordBatch:
    """The batch with the types of the first file's columns."""
    if batch.schema.equals(schema):
        return batch
    try:
        return batch.cast(schema)
    except pa.ArrowException:
        ours, theirs = next(
            (a, b) for a, b in zip(batch.schema, schema, strict=True) if not a.equals(b)
        )
        raise FsckitError(
            f"{file}: its column '{printable(ours.name)}' is {ours.type} and that of {first.name} "
            f"is {theirs.type}, which it cannot be made; make them alike"
        ) from None


def write_table(path: Path, batches: Iterator[pa.RecordBatch]) -> int:
    """Write rows as the Parquet that img2dataset is given; returns how many.

    Raises:
        FsckitError: the disk is full, or the folder cannot be written.
    """
    first = next(batches, None)
    if first is None:
        return 0
    rows = 0
    with (
        atomic_file(path) as file,
        pq.ParquetWriter(file, first.schema, compression="zstd") as writer,
    ):
        for batch in chain([first], batches):
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def table_files(table: Path) -> list[Path]:
    """A table's file, or the files of a folder, hidden ones left out.

    Raises:
        FsckitError: it is none.
    """
    files = [table]
    if table.is_dir():
        visible = [file for file in entries(table, "") if not file.name.startswith(".")]
        files = [file for file in visible if file.suffix.lower() in TABLE_SUFFIXES]
    if not files or any(file.suffix.lower() not in TABLE_SUFFIXES for file in files):
        raise FsckitError(f"{table}: not a table of addresses; one is {', '.join(TABLE_SUFFIXES)}")
    return files


def _read_parquet(
    file: Path, columns: Columns, numbers: Iterator[int], skipped: Counter[str]
) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(file) as parquet:
        _places(file, columns, parquet.schema_arrow.names)
        for batch in parquet.iter_batches(BATCH, columns=columns.wanted):
            rows = pa.array(islice(numbers, batch.num_rows), pa.int64())
            arrays = [batch.column(name) for name in columns.wanted]
            for i in range(len(arrays) - len(columns.kept)):
                arrays[i] = pc.cast(arrays[i], pa.string())
            yield pa.RecordBatch.from_arrays([rows, *arrays], [ROW, *columns.renamed])


def _read_text(
    file: Path, columns: Columns, numbers: Iterator[int], skipped: Counter[str]
) -> Iterator[pa.RecordBatch]:
    # Captions on the web hold lone quotes; tab-separated text is not quoted.
    if file.suffix.lower() == ".tsv":
        style: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    else:
        style = {}
    # A byte that is not UTF-8 spoils its own row, not the file.
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        reader = csv.reader(text, strict=True, **style)
        names = list(columns.names or next(reader, []))
        rows = _text_rows(reader, _places(file, columns, names), len(names), numbers, skipped)
        while part := list(islice(rows, BATCH)):
            arrays = [pa.array(column) for column in zip(*part, strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, [ROW, *columns.renamed])


def _text_rows(
    reader: Any, places: list[int], fields: int, numbers: Iterator[int], skipped: Counter[str]
) -> Iterator[tuple[int | str, ...]]:
    """The row's number and its wanted fields."""
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            next(numbers)
            skipped["bad row: broken quotes, or a field too long"] += 1
            continue
        if not row:
            continue
        number = next(numbers)
        if len(row) != fields:
            skipped["bad row: another number of fields than the columns"] += 1
            continue
        wanted = [row[place] for place in places]
        if all(map(is_unicode, wanted)):
            yield (number, *wanted)
        else:
            skipped["bad row: not UTF-8"] += 1


def _places(file: Path, columns: Columns, names: list[str]) -> list[int]:
    """Where the wanted columns stand among a table's own."""
    if ROW in columns.kept:
        raise FsckitError(f"{file}: '{ROW}' is fscdata's own column; keep others")
    for name in columns.wanted:
        if names.count(name) > 1:
            raise FsckitError(
                f"{file}: has the column '{printable(name)}' {names.count(name)} times; rename all "
                f"but one"
            )
        if name not in names:
            shown = ", ".join(f"'{printable(there[:40])}'" for there in names[:20]) or "none"
            raise FsckitError(
                f"{file}: no column '{printable(name)}'; its columns are {shown} (of a table "
                f"without a header, name them all)"
            )
    return [names.index(name) for name in columns.wanted]


def _usable(batch: pa.RecordBatch, columns: Columns, skipped: Counter[str]) -> pa.RecordBatch:
    """The rows that may give a sample; the others are counted."""
    batch = batch.set_column(1, "url", pc.utf8_trim_whitespace(batch.column("url")))
    checks = [
        ("bad row: no address", "url", r"."),
        # img2dataset would open file:// too, and pack a stranger's choice of local files.
        ("bad row: not an http address", "url", r"(?i)^https?://."),
    ]
    if columns.caption:
        checks.append(("bad row: no caption", "caption", r"\S"))
    for reason, name, pattern in checks:
        good = pc.fill_null(pc.match_substring_regex(batch.column(name), pattern), False)
        skipped[reason] += len(good) - pc.sum(good).as_py() if len(good) else 0
        batch = batch.filter(good)
    return batch
