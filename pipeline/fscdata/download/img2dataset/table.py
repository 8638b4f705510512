"""Reads tables of URLs and captions: TSV, CSV or Parquet, one file or a folder of them."""

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

from fscdata.base.errors import FsckitError, first_line
from fscdata.base.files import atomic_file
from fscdata.base.paths import access, entries
from fscdata.base.text import is_unicode, printable

SUFFIXES = (".tsv", ".csv", ".parquet")
ROW = "table_row"  # the row's number in the table, from 0, without the header
BATCH = 65_536  # rows


@dataclass(frozen=True)
class Columns:
    """A table's columns: `url`, `caption` and those to keep.

    `names` are all columns, in order, of a table without a header.
    """

    url: str = "url"
    caption: str = "caption"
    names: tuple[str, ...] | None = None
    kept: tuple[str, ...] = ()

    @property
    def wanted(self) -> list[str]:
        return [self.url, self.caption, *self.kept]

    @property
    def renamed(self) -> list[str]:
        return ["url", "caption", *self.kept]


class TableReader:
    """Reads the usable rows of a table; `skipped` counts the others by reason."""

    def __init__(self, files: Sequence[Path], columns: Columns) -> None:
        self.skipped: Counter[str] = Counter()
        self._files = files
        self._columns = columns
        self._numbers = count()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The columns `table_row`, `url`, `caption` and the kept ones.

        Raises:
            FsckitError: a file is missing or unreadable, lacks a column, or has a column whose type
                differs from the first file's.
        """
        schema: pa.Schema | None = None
        for file in self._files:
            read = self._read_parquet if file.suffix.lower() == ".parquet" else self._read_text
            try:
                with access(file, "read"):
                    for batch in read(file):
                        schema = schema or batch.schema
                        yield self._usable(_cast(file, batch, schema, self._files[0]))
            except pa.ArrowException as error:
                raise FsckitError(
                    f"{file}: not a readable table ({first_line(error)}); replace it "
                    f"(if fetched, delete it and rerun)"
                ) from None

    def _read_parquet(self, file: Path) -> Iterator[pa.RecordBatch]:
        columns = self._columns
        with pq.ParquetFile(file) as parquet:
            _places(file, columns, parquet.schema_arrow.names)
            for batch in parquet.iter_batches(BATCH, columns=columns.wanted):
                rows = pa.array(islice(self._numbers, batch.num_rows), pa.int64())
                arrays = [batch.column(name) for name in columns.wanted]
                for i in range(2):  # URL and caption; kept columns keep their types
                    arrays[i] = pc.cast(arrays[i], pa.string())
                yield pa.RecordBatch.from_arrays([rows, *arrays], [ROW, *columns.renamed])

    def _read_text(self, file: Path) -> Iterator[pa.RecordBatch]:
        # Web captions contain unmatched quotes, so tab-separated text is read without quoting.
        if file.suffix.lower() == ".tsv":
            style: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
        else:
            style = {}
        # With surrogateescape, a byte that is not UTF-8 spoils only its own row.
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
            reader = csv.reader(text, strict=True, **style)
            names = list(self._columns.names or next(reader, []))
            rows = self._text_rows(reader, _places(file, self._columns, names), len(names))
            while part := list(islice(rows, BATCH)):
                arrays = [pa.array(column) for column in zip(*part, strict=True)]
                yield pa.RecordBatch.from_arrays(arrays, [ROW, *self._columns.renamed])

    def _text_rows(
        self, reader: Any, places: list[int], fields: int
    ) -> Iterator[tuple[int | str, ...]]:
        """Each row's number and its wanted fields."""
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error:
                next(self._numbers)
                self.skipped["bad row: broken quotes, or a field too long"] += 1
                continue
            if not row:
                continue
            number = next(self._numbers)
            if len(row) != fields:
                self.skipped["bad row: another number of fields than the columns"] += 1
                continue
            wanted = [row[place] for place in places]
            if all(map(is_unicode, wanted)):
                yield (number, *wanted)
            else:
                self.skipped["bad row: not UTF-8"] += 1

    def _usable(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows that can become a sample; the others are counted."""
        batch = batch.set_column(1, "url", pc.utf8_trim_whitespace(batch.column("url")))
        for reason, name, pattern in (
            ("bad row: no address", "url", r"."),
            # img2dataset would also open file://, and pack local files of a stranger's choice.
            ("bad row: not an http address", "url", r"(?i)^https?://."),
            ("bad row: no caption", "caption", r"\S"),
        ):
            good = pc.fill_null(pc.match_substring_regex(batch.column(name), pattern), False)
            self.skipped[reason] += len(good) - pc.sum(good).as_py() if len(good) else 0
            batch = batch.filter(good)
        return batch


def write_table(path: Path, batches: Iterator[pa.RecordBatch]) -> int:
    """Write rows as the Parquet that img2dataset reads; returns how many.

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


def find_table_files(table: Path) -> list[Path]:
    """A table's file, or the visible files of its folder.

    Raises:
        FsckitError: it is not a table.
    """
    files = [table]
    if table.is_dir():
        visible = [file for file in entries(table, "") if not file.name.startswith(".")]
        files = [file for file in visible if file.suffix.lower() in SUFFIXES]
    if not files or any(file.suffix.lower() not in SUFFIXES for file in files):
        raise FsckitError(f"{table}: not a table of URLs; expected {', '.join(SUFFIXES)}")
    return files


def _cast(file: Path, batch: pa.RecordBatch, schema: pa.Schema, first: Path) -> pa.RecordBatch:
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
            f"{file}: its column '{printable(ours.name)}' is {ours.type}, which cannot be cast "
            f"to {theirs.type} as in {first.name}; use the same type in all files"
        ) from None


def _places(file: Path, columns: Columns, names: list[str]) -> list[int]:
    """The positions of the wanted columns among the table's own."""
    if ROW in columns.kept:
        raise FsckitError(f"{file}: fscdata uses the column name '{ROW}' itself; rename the column")
    for name in columns.wanted:
        if names.count(name) > 1:
            raise FsckitError(
                f"{file}: has {names.count(name)} columns '{printable(name)}'; rename all but one"
            )
        if name not in names:
            shown = ", ".join(f"'{printable(other[:40])}'" for other in names[:20]) or "none"
            raise FsckitError(
                f"{file}: no column '{printable(name)}'; its columns are {shown} (if the table has "
                f"no header, list its columns in the manifest's 'columns')"
            )
    return [names.index(name) for name in columns.wanted]
