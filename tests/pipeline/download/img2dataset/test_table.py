"""Reads tables of URLs in all formats, and counts their unusable rows."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fscdata.base.errors import FsckitError
from fscdata.download.img2dataset.table import Columns, TableReader, find_table_files, write_table

CC3M = Columns(names=("caption", "url"))
LAION = Columns("URL", "TEXT", kept=("similarity",))


def rows(path: Path, columns: Columns) -> tuple[list[dict[str, object]], dict[str, int]]:
    reader = TableReader(find_table_files(path), columns)
    found = [row for batch in reader.batches() for row in batch.to_pylist()]
    return found, dict(+reader.skipped)


def test_reads_cc3m_without_header_and_quotes(tmp_path: Path) -> None:
    table = tmp_path / "cc3m.tsv"
    table.write_bytes(
        b'a "big dog\thttp://a/1.jpg\n'
        b"no tab\n"
        b"caf\xe9\thttp://a/2.jpg\n"
        b"\thttp://a/3.jpg\n"
        b"nowhere\t \n"
        b"mine\tfile:///etc/passwd\n"
        b"old\tftp://a/4.jpg\n"
        b"b\tHTTPS://a/5.jpg \n"
    )
    found, skipped = rows(table, CC3M)
    assert found == [
        {"table_row": 0, "url": "http://a/1.jpg", "caption": 'a "big dog'},
        {"table_row": 7, "url": "HTTPS://a/5.jpg", "caption": "b"},
    ]
    assert skipped == {
        "bad row: another number of fields than the columns": 1,
        "bad row: not UTF-8": 1,
        "bad row: no caption": 1,
        "bad row: no address": 1,
        "bad row: not an http address": 2,
    }


def test_reads_a_quoted_csv_with_a_header(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text('id,url,caption\n7,http://a/1.jpg,"a, b"\n8,http://a/2.jpg,"lost\n')
    found, skipped = rows(table, Columns(kept=("id",)))
    assert found == [{"table_row": 0, "url": "http://a/1.jpg", "caption": "a, b", "id": "7"}]
    assert skipped == {"bad row: broken quotes, or a field too long": 1}


def test_reads_a_folder_of_parquet_as_one_table(tmp_path: Path) -> None:
    for part in range(2):
        table = {
            "URL": [f"http://a/{part}", None],
            "TEXT": pa.array([f"c{part}", "d"], pa.large_string()),
            "similarity": [0.5, 0.25],
            "other": [1, 2],
        }
        pq.write_table(pa.table(table), tmp_path / f"part-{part}.parquet")
    (tmp_path / "README.md").write_text("not a table")
    found, skipped = rows(tmp_path, LAION)
    assert found == [
        {"table_row": 0, "url": "http://a/0", "caption": "c0", "similarity": 0.5},
        {"table_row": 2, "url": "http://a/1", "caption": "c1", "similarity": 0.5},
    ]
    assert skipped == {"bad row: no address": 2}

    count = write_table(tmp_path / "out", TableReader(find_table_files(tmp_path), LAION).batches())
    assert (count, pq.read_table(tmp_path / "out").to_pylist()) == (2, found)


def test_an_empty_table_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("url,caption\n")
    reader = TableReader([tmp_path / "t.csv"], Columns())
    assert write_table(tmp_path / "out", reader.batches()) == 0


@pytest.mark.parametrize(
    ("name", "content", "columns", "sentence"),
    [
        ("t.csv", b"link,text\n", Columns(), "no column 'url'; its columns are 'link', 'text'"),
        (
            "t.csv",
            b"url,caption,table_row\n",
            Columns(kept=("table_row",)),
            "fscdata uses the column name 'table_row'",
        ),
        (
            "t.parquet",
            b"PAR1 but no more",
            LAION,
            r"not a readable table .*; replace it \(if fetched, delete it",
        ),
        ("t.txt", b"http://a/1.jpg", CC3M, "not a table of URLs"),
        ("t.tsv", None, CC3M, "cannot be read .No such file"),
    ],
)
def test_names_an_unreadable_table(
    tmp_path: Path, name: str, content: bytes | None, columns: Columns, sentence: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(FsckitError, match=rf"{name}: {sentence}"):
        rows(tmp_path / name, columns)


def test_casts_columns_to_the_types_of_the_first_file(tmp_path: Path) -> None:
    def write(name: str, values: list[object]) -> None:
        size = len(values)
        table = {"url": ["http://a/"] * size, "caption": ["a cat"] * size, "score": values}
        pq.write_table(pa.table(table), tmp_path / name)

    columns = Columns(kept=("score",))
    write("a.parquet", [1.5])
    write("b.parquet", [2])
    assert [row["score"] for row in rows(tmp_path, columns)[0]] == [1.5, 2.0]
    write("b.parquet", ["high"])
    with pytest.raises(
        FsckitError, match=r"b\.parquet: its column 'score' is string, which cannot be cast to do"
    ):
        rows(tmp_path, columns)
    twice = pa.Table.from_arrays(
        [pa.array(["http://a/"])] * 2 + [pa.array(["x"])], ["url"] * 2 + ["caption"]
    )
    pq.write_table(twice, tmp_path / "b.parquet")
    with pytest.raises(FsckitError, match=r"b\.parquet: has 2 columns 'url'"):
        rows(tmp_path, Columns())


def test_skips_hidden_files_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("url,caption\nhttp://a/,A cat.\n")
    (tmp_path / "._a.csv").write_text("left by a Mac")
    assert len(rows(tmp_path, Columns())[0]) == 1
