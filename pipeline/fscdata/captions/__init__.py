"""Readers for captions, one module per format, found by the content.

Each reader yields, in file order, a `Row` or the reason a row is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from fscdata.base.errors import FsckitError
from fscdata.base.paths import cannot_be
from fscdata.captions.coco import read_coco
from fscdata.captions.columns import Columns
from fscdata.captions.parquet import read_parquet
from fscdata.captions.records import read_records
from fscdata.captions.rows import (
    BAD_ENCODING,
    BAD_JSON,
    BAD_NEGATIVES,
    CaptionFile,
    Captions,
    Row,
    add_row,
)
from fscdata.captions.sugarcrepe import is_sugarcrepe, read_sugarcrepe
from fscdata.captions.table import is_table, read_table
from fscdata.captions.text_files import read_text_files

__all__ = [
    "BAD_ENCODING",
    "BAD_JSON",
    "BAD_NEGATIVES",
    "CaptionFile",
    "Captions",
    "Columns",
    "read_beside",
    "read_captions",
]

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # as Hugging Face names them
_KNOWN = ".tsv, .csv, .txt, .jsonl, .json, .parquet"


def read_captions(path: Path, columns: Columns = Columns()) -> CaptionFile:  # noqa: B008  (frozen)
    """Read a caption file of any supported format.

    A table (text with any separator, JSON lines, Parquet) has an image column and a caption column;
    an image may have several rows. A JSON file is in COCO's format, with `images` and
    `annotations`, in SugarCrepe's, or a list of rows.

    Raises:
        FsckitError: the file is missing or empty, has an unknown format, or lacks a column.
    """
    if columns.sep is not None and len(columns.sep) != 1:
        raise FsckitError(f"`sep` {columns.sep!r}: expected one character, such as '|'")
    file = _collect(_rows(path, columns), path)
    if not file.images and not file.skipped:
        raise FsckitError(f"{path}: contains no captions; choose another file")
    return file


def read_beside(
    folder: Path,
    images: Iterable[Path],
    columns: Columns = Columns(),  # noqa: B008  (frozen)
) -> CaptionFile:
    """Read the captions inside a folder of images: its metadata file, or a text file per image.

    Raises:
        FsckitError: the folder has neither.
    """
    for name in METADATA:
        if (folder / name).is_file():
            return read_captions(folder / name, columns)
    file = _collect(read_text_files(folder, images), folder)
    if not file.images and not file.skipped:
        raise FsckitError(
            f"{folder}: has no {' or '.join(METADATA[:2])}, and no .txt beside an image; name a "
            f"file with `captions`"
        )
    return file


def _collect(rows: Iterable[Row | str], path: Path) -> CaptionFile:
    file = CaptionFile()
    try:
        for row in rows:
            file.skipped.update([row] if isinstance(row, str) else add_row(file.images, row))
    except OSError as error:
        raise cannot_be("read", path, error) from None
    return file


def _rows(path: Path, columns: Columns) -> Iterator[Row | str]:
    suffix = path.suffix.lower()
    with path.open("rb") as stream:
        parquet = stream.read(4) == b"PAR1"
    if parquet or suffix == ".parquet":
        yield from read_parquet(path, columns)
        return
    # Invalid UTF-8 invalidates only its own row, not the file.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        if suffix == ".json":
            yield from _read_json(path, text, columns)
        elif suffix == ".jsonl":
            records = (_json(line) for line in text if line.strip())
            yield from read_records(path, records, columns)
        else:
            header = text.readline(2**16).rstrip("\r\n")
            text.seek(0)
            named = suffix in (".tsv", ".csv") or columns.sep is not None
            if not named and not is_table(path, header, columns):
                raise FsckitError(
                    f"{path}: unknown caption format; use one of {_KNOWN}, or a table whose first "
                    f"line names its columns"
                )
            yield from read_table(path, text, columns)


def _read_json(path: Path, text: TextIO, columns: Columns) -> Iterator[Row | str]:
    content = _json(text.read())
    if isinstance(content, list):
        return read_records(path, content, columns)
    if is_sugarcrepe(content):
        return read_sugarcrepe(content)
    return read_coco(path, content)


def _json(text: str) -> Any:
    """Parse JSON; None if it is invalid."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
