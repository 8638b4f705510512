"""Rows as JSON objects: JSON lines, or a JSON list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from fscdata.base.errors import FsckitError
from fscdata.captions.columns import NEGATIVES_COLUMN, Columns
from fscdata.captions.rows import BAD_JSON, Row


def read_records(path: Path, records: Iterable[object], columns: Columns) -> Iterator[Row | str]:
    """The rows of objects with an image field and a caption field.

    Raises:
        FsckitError: the first object lacks a field.
    """
    first = True
    for record in records:
        if not isinstance(record, dict):
            yield BAD_JSON
            continue
        names = {name.lower(): name for name in record}
        try:
            image, caption = (names[name] for name in columns.find(path, names))
        except FsckitError:
            if first:  # the whole file has the wrong format, not just one row
                raise
            yield "bad row: no image or no caption field"
            continue
        first = False
        negatives = names.get(NEGATIVES_COLUMN)
        yield Row(record[image], record[caption], negatives and record[negatives])
