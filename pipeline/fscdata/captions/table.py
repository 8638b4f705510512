"""Text tables: TSV, CSV, and others, such as Flickr30k's results.csv with `|` between columns."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from fscdata.captions.columns import NEGATIVES_COLUMN, Columns
from fscdata.captions.rows import Row

SEPARATORS = "\t,|;"


def read_table(path: Path, text: TextIO, columns: Columns) -> Iterator[Row | str]:
    """The rows of a table whose first line is the header.

    Raises:
        FsckitError: a column is missing.
    """
    header = text.readline().rstrip("\r\n")
    text.seek(0)
    sep = columns.sep or _separator(path, header, columns)
    # Tab-separated files and Flickr30k's have bare quotes; NegCLIP's was written by pandas.
    bare = sep in "\t|" and NEGATIVES_COLUMN not in header.split(sep)
    if bare:
        reader = csv.reader(text, delimiter=sep, quoting=csv.QUOTE_NONE, strict=True)
    else:
        reader = csv.reader(text, delimiter=sep, strict=True)
    return _rows(path, reader, columns)


def is_table(path: Path, header: str, columns: Columns) -> bool:
    """Whether a line is the header of a table with the columns."""
    return any(columns.fits(path, _names(header, sep)) for sep in columns.sep or SEPARATORS)


def _separator(path: Path, header: str, columns: Columns) -> str:
    """The separator whose columns fit, else the one that the file's name suggests."""
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    fitting = (sep for sep in SEPARATORS if columns.fits(path, _names(header, sep)))
    return next(fitting, usual)


def _names(header: str, sep: str) -> list[str]:
    return [name.strip(' "').lower() for name in header.split(sep)]


def _rows(path: Path, reader: Any, columns: Columns) -> Iterator[Row | str]:
    """The rows of a csv.reader, whose first row is the header."""
    header: list[str] = []
    for row in _parsed(reader):
        if isinstance(row, str):
            yield row
        elif row and not header:
            header = row
            places = {name.strip().lower(): i for i, name in enumerate(header)}
            image, caption = (places[name] for name in columns.find(path, places))
            negatives = places.get(NEGATIVES_COLUMN)
        elif row and len(row) != len(header):
            yield "bad row: another number of fields than the header"
        elif row:
            yield Row(row[image], row[caption], None if negatives is None else row[negatives])


def _parsed(reader: Any) -> Iterator[list[str] | str]:
    """The reader's rows; a reason for each line that it cannot parse."""
    while True:
        line = reader.line_num
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            reason = "bad row: broken quotes, or a field too long"
            yield from [reason] * (reader.line_num - line)
        else:
            yield row
