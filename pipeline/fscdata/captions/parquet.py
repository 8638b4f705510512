"""Parquet tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fscdata.base.errors import FsckitError, first_line
from fscdata.captions.columns import NEGATIVES_COLUMN, Columns
from fscdata.captions.rows import Row


def read_parquet(path: Path, columns: Columns) -> Iterator[Row | str]:
    """The rows of a Parquet file.

    Raises:
        FsckitError: the file is damaged, or a column is missing.
    """
    try:
        with pq.ParquetFile(path) as parquet:
            names = {name.strip().lower(): name for name in parquet.schema_arrow.names}
            chosen = [names[name] for name in columns.find(path, names)]
            if NEGATIVES_COLUMN in names:
                chosen.append(names[NEGATIVES_COLUMN])
            for batch in parquet.iter_batches(columns=chosen):
                values = [batch.column(name).to_pylist() for name in chosen]
                yield from (Row(*row) for row in zip(*values, strict=True))
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise FsckitError(
            f"{path}: damaged, or not Parquet ({first_line(error)}); download it again"
        ) from None
