"""Tables are written completely or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fscdata.contract import (
    Metadata,
    Provenance,
    ShardRecord,
    read_metadata,
    read_table,
    remove_temporary,
    samples_schema,
    write_parquet,
)

TABLE = samples_schema().empty_table()
METADATA = Metadata(Provenance("samples", "default", None), ShardRecord("0.tar", 1, "0", "1", 0, 0))


def test_reads_back_a_table_and_its_metadata(tmp_path: Path) -> None:
    path = tmp_path / "samples" / "0.parquet"
    written = write_parquet(path, TABLE, METADATA)
    assert written == path.stat().st_size
    assert read_table(path) == TABLE
    assert read_metadata(path) == METADATA
    assert list(path.parent.iterdir()) == [path]


def test_reports_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "samples").write_bytes(b"no folder")
    with pytest.raises(
        FsckitError, match=r"samples/0.parquet: cannot be written \((Not a dir|File)"
    ):
        write_parquet(tmp_path / "samples" / "0.parquet", TABLE, METADATA)


def test_remove_temporary_removes_only_unfinished_tables(tmp_path: Path) -> None:
    left = ["samples/.0.parquet.7-ab.tmp", "negatives/svlc/.0.parquet.tmp"]
    kept = ["samples/0.parquet", "samples/.notes.tmp", "samples/0.parquet.tmp", "x/.0.parquet.tmp"]
    for name in left + kept:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    remove_temporary(tmp_path)
    remaining = {
        file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()
    }
    assert remaining == set(kept)
