import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from rich.console import Console

from fscdata.base.errors import FsckitError
from fscdata.contract import (
    Metadata,
    Provenance,
    ShardRecord,
    caption_hash,
    negatives_path,
    negatives_schema,
    samples_path,
    samples_schema,
    write_parquet,
)
from fscdata.explore import connect, inspect, print_query, write_database
from fscdata.negatives.changes import changed_words
from fscdata.negatives.style import Edit

CAPTIONS = {
    "00000": ["A cat sees a dog.", "A red hat [bold]here[/bold].", "Run\x1b[2J!"],
    "00001": ["Tiny."],
}
SWAP = {
    "negative": "A dog sees a cat.",
    "operator": "swap:noun",
    "relation": None,
    "edits": [
        {"start": 2, "end": 5, "old": "cat", "new": "dog"},
        {"start": 13, "end": 16, "old": "dog", "new": "cat"},
    ],
}
BLUE = {
    "negative": "A blue hat [bold]here[/bold].",
    "operator": "replace:attribute",
    "relation": "antonym",
    "edits": [{"start": 2, "end": 5, "old": "red", "new": "blue"}],
}


def write_samples(data: Path, shard: str, **changes: Any) -> None:
    rows = [
        {
            "key": f"{shard}{i:04d}",
            "caption_index": 0,
            "caption": caption,
            "caption_hash": caption_hash(caption),
            "image_ext": "jpg",
            "image_offset": 0,
            "image_size": 1,
            "token_ids": [49406, 1, 49407],
        }
        for i, caption in enumerate(CAPTIONS[shard])
    ]
    provenance = Provenance("samples", "default", **{"tokenizer": "ViT-B-32", **changes})
    record = ShardRecord(f"{shard}.tar", 1, "0", "1", len(rows), len(rows), {"caption: empty": 2})
    table = pa.Table.from_pylist(rows, samples_schema())
    write_parquet(samples_path(data, shard), table, Metadata(provenance, record))


def write_negatives(
    data: Path,
    style: str,
    shard: str,
    negatives: list[tuple[int, int, dict[str, Any]]],
    without: dict[str, int],
    **changes: Any,
) -> None:
    """`negatives` are (caption index, variant, row)."""
    rows = [
        {
            "key": f"{shard}{i:04d}",
            "caption_index": 0,
            "caption_hash": caption_hash(CAPTIONS[shard][i]),
            "variant": variant,
            "token_ids": [49406, 2, 49407],
            **row,
        }
        for i, variant, row in negatives
    ]
    provenance = Provenance("negatives", "default", "ViT-B-32", style, 1, {}, 0, 2, **changes)
    record = ShardRecord(f"{shard}.tar", 1, "0", "1", len(rows), len(CAPTIONS[shard]), without)
    table = pa.Table.from_pylist(rows, negatives_schema())
    write_parquet(negatives_path(data, style, shard), table, Metadata(provenance, record))


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Samples without negatives, in a folder whose name contains SQL and glob characters."""
    data = tmp_path / "it's [a]*{b}=c"
    for shard in CAPTIONS:
        write_samples(data, shard)
    return data


@pytest.fixture
def data(bare: Path) -> Path:
    swaps = [(0, 0, SWAP), (0, 1, {**SWAP, "operator": "swap:noun_phrase"})]
    reason = 'fewer than "two" spans: all.'
    write_negatives(bare, "negclip", "00000", swaps, {reason: 2})
    write_negatives(bare, "negclip", "00001", [], {reason: 1})
    write_negatives(bare, "replace", "00000", [(1, 0, BLUE)], {"no word": 1, "too short": 1})
    write_negatives(bare, "replace", "00001", [], {"too short": 1})
    return bare


def ask(data: Path, sql: str) -> list[tuple[Any, ...]]:
    with connect(data) as connection:
        return connection.execute(sql).fetchall()


def shown(data: Path, colour: bool = False, **options: Any) -> str:
    console = Console(
        file=io.StringIO(),
        width=120,
        force_terminal=colour,
        color_system="standard" if colour else None,
        no_color=False,
    )
    inspect(data, console, **options)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


COVERAGE = [
    ("negclip", "with negatives", 1, 0.25, 2),
    ("negclip", 'fewer than "two" spans: all.', 3, 0.75, 0),
    ("replace", "with negatives", 1, 0.25, 1),
    ("replace", "too short", 2, 0.5, 0),
    ("replace", "no word", 1, 0.25, 0),
]


def test_views(data: Path) -> None:
    assert ask(data, "SELECT caption, shard FROM samples ORDER BY key") == [
        (caption, shard) for shard, captions in CAPTIONS.items() for caption in captions
    ]
    assert ask(data, "SELECT key, variant, style, shard FROM negatives ORDER BY ALL") == [
        ("000000000", 0, "negclip", "00000"),
        ("000000000", 1, "negclip", "00000"),
        ("000000001", 0, "replace", "00000"),
    ]
    assert ask(data, "SELECT edits FROM negatives WHERE style = 'replace'") == [(BLUE["edits"],)]
    assert ask(data, "FROM coverage") == COVERAGE


def test_works_without_negatives(bare: Path, data: Path) -> None:
    columns = "SELECT column_name, column_type FROM (DESCRIBE negatives)"
    with_some = ask(data, columns)
    for file in (data / "negatives").rglob("*.parquet"):
        file.unlink()
    assert ask(bare, columns) == with_some
    assert ask(bare, "FROM negatives") == []
    assert ask(bare, "FROM coverage") == []
    assert "no negatives yet" in shown(bare)


def test_coverage_includes_styles_without_negatives(bare: Path) -> None:
    write_negatives(bare, "svlc", "00000", [], {"no word": 3})
    write_negatives(bare, "svlc", "00001", [], {"no word": 1})
    assert ask(bare, "FROM coverage") == [("svlc", "no word", 4, 1.0, 0)]
    assert "svlc" in shown(bare)


def test_a_database_works_from_any_folder(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data.parent)
    path = write_database(Path(data.name))
    assert path == Path(data.name, f"{data.name}.duckdb")
    moved = data.parent / "elsewhere.duckdb"
    path.rename(moved)
    monkeypatch.chdir("/")
    with duckdb.connect(moved, read_only=True) as connection:
        assert connection.execute("FROM coverage").fetchall() == COVERAGE
        assert connection.execute("SELECT count(*) FROM samples").fetchall() == [(4,)]
        assert connection.execute("SELECT count(*) FROM negatives").fetchall() == [(3,)]
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{moved}' AS other (READ_ONLY)")
        assert connection.execute("FROM other.coverage").fetchall() == COVERAGE
    assert not [p for p in data.iterdir() if p.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.4.5", "2.0.1"])
def test_other_versions_of_duckdb_read_a_database(data: Path, version: str, tmp_path: Path) -> None:
    """`make install` puts them into the environment's folder `duckdb`."""
    library = Path(sys.prefix, "duckdb", version)
    if not library.is_dir():
        pytest.skip(f"no {library}; run 'make install'")
    path = write_database(data, tmp_path / "x.duckdb")
    program = """
import duckdb, json, sys
connection = duckdb.connect(sys.argv[1], read_only=True)
rows = [connection.execute(f"FROM {view}").fetchall() for view in ("coverage", "samples")]
print(json.dumps([duckdb.__version__, rows[0], len(rows[1])]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, path],
        env=os.environ | {"PYTHONPATH": str(library)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [version, [list(row) for row in COVERAGE], 4]


def run_sql(data: Path, sql: str, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=120)
    print_query(data, sql, "csv", console, **options)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("relative", [False, True])
def test_sql_uses_only_the_data_set_s_files(
    relative: bool, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, out = tmp_path / "secret.csv", tmp_path / "out.csv"
    secret.write_text("a\n1\n")
    if relative:
        monkeypatch.chdir(data.parent)
        data = Path(data.name)
    assert run_sql(data, "SELECT count(*) AS n FROM samples") == "n\n4\n"
    assert run_sql(data, "CREATE TEMP TABLE t AS FROM samples; FROM t LIMIT 0").startswith("key,")
    for sql in (f"FROM read_csv('{secret}')", f"FROM '{secret}'", "FROM glob('/etc/*')"):
        with pytest.raises(FsckitError, match="SQL can use only the data set's files"):
            run_sql(data, sql)
    for place in (out, data / "out.csv"):
        escaped = str(place).replace("'", "''")
        for sql in (
            f"COPY samples TO '{escaped}'",
            f"ATTACH '{escaped}'",
            f"EXPORT DATABASE '{out}'",
        ):
            with pytest.raises(
                FsckitError, match=r"can write files; to allow it, add `unrestricted`"
            ):
                run_sql(data, f"SELECT 1; {sql}")
        assert not place.exists()
    with pytest.raises(FsckitError, match="the configuration has been locked"):
        run_sql(data, "SET enable_external_access = true")
    assert run_sql(data, f"FROM read_csv('{secret}')", unrestricted=True) == "a\n1\n"
    run_sql(data, f"COPY samples TO '{out}'", unrestricted=True)
    assert out.exists()


def test_an_existing_database_gets_new_views(data: Path, tmp_path: Path) -> None:
    path = write_database(data, tmp_path / "x.duckdb")
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1 AS a")
    write_negatives(data, "imported", "00000", [(0, 0, SWAP)], {"none published": 2})
    write_negatives(data, "imported", "00001", [], {"none published": 1})
    write_database(data, path)
    with duckdb.connect(path, read_only=True) as connection:
        assert connection.execute("FROM mine").fetchall() == [(1,)]
        styles = connection.execute("SELECT DISTINCT style FROM coverage ORDER BY 1").fetchall()
    assert styles == [("imported",), ("negclip",), ("replace",)]


def test_a_database_does_not_overwrite_another_file(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes " * 1000)
    with pytest.raises(FsckitError, match=r"notes\.txt.*not a valid DuckDB database"):
        write_database(data, path)
    assert path.read_text() == "my notes " * 1000
    with pytest.raises(FsckitError, match="nowhere: no such folder"):
        write_database(data, tmp_path / "nowhere" / "x.duckdb")


def test_broken_tables_are_rejected(bare: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(FsckitError, match="gone: no such folder"):
        connect(tmp_path / "gone")
    with pytest.raises(FsckitError, match="no samples table; make it with 'fscdata make-neg"):
        connect(tmp_path)
    write_negatives(data, "replace", "00001", [], {"too short": 1}, model_version="other")
    with pytest.raises(
        FsckitError,
        match=r"replace/00001\.parquet: shards have mixed provenance: its model_version is",
    ):
        connect(data)
    write_samples(data, "00001", schema_version=99)
    with pytest.raises(FsckitError, match=r"samples/00001\.parquet: schema version 99"):
        connect(data)
    samples_path(data, "00001").write_bytes(b"PAR1 noise")
    with pytest.raises(FsckitError, match="not a Parquet file"):
        connect(data)


def test_inspect_counts(data: Path) -> None:
    text = shown(data)
    lines = [line.split() for line in text.splitlines()]
    assert "no tars here, 2 with tables: 4 images, 4 captions, token ids: ViT-B-32" in text
    assert ["caption:", "empty", "4"] in lines
    styles = [line for line in lines if line[-1:] == ["2/2"]]
    assert [line[:6] for line in styles] == [
        ["negclip", "4", "1", "25.0", "2", "2.00"],
        ["replace", "4", "1", "25.0", "1", "1.00"],
    ]
    assert ["negclip", "swap:noun", "1", "50.0"] in lines
    assert ["replace", "replace:attribute", "1", "100.0"] in lines
    assert ["replace", "too", "short", "2", "50.0"] in lines


def test_inspect_ends_quietly_when_its_reader_has_gone(data: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "fscdata", "inspect", str(data)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_inspect_shows_file_sizes(data: Path) -> None:
    kept = negatives_path(data, "replace", "00000").stat().st_size
    kept += negatives_path(data, "replace", "00001").stat().st_size
    line = next(line for line in shown(data).splitlines() if "replace" in line and "2/2" in line)
    assert f"{kept / 1000:.1f} kB" in line


def test_inspect_examples_in_plain_text(data: Path) -> None:
    text = shown(data)
    assert "negclip  A [cat→dog] sees a [dog→cat].  (swap:noun)" in text
    assert "A [red→blue] hat [bold]here[/bold].  (replace:attribute, antonym)" in text
    assert "\x1b" not in text
    assert shown(data) == text
    assert "[cat→dog]" not in shown(data, style="replace")
    assert "negclip" not in shown(data, style="replace")
    assert "→" not in shown(data, examples=0)
    assert shown(data, examples=1).count("→") in (1, 2)


def test_inspect_examples_in_colour(data: Path) -> None:
    text = shown(data, colour=True)
    assert "\x1b[9;31mred\x1b[0m" in text
    assert "\x1b[32mblue\x1b[0m" in text


def test_inspect_escapes_untrusted_text(data: Path) -> None:
    evil = {
        **SWAP,
        "negative": "Run\x1b[2J?",
        "operator": "\x1b]0;x\x07[link=x]y[/link]",
        "edits": [],
    }
    walk = {"start": 0, "end": 3, "old": "Run", "new": "Walk"}
    late = {**SWAP, "negative": "Walk\x1b[2J!", "edits": [walk]}
    write_negatives(data, "negclip", "00000", [(2, 0, late)], {"too short": 2})
    write_negatives(data, "replace", "00000", [(2, 0, evil)], {"\x1b[31m[red]": 2})
    text = shown(data)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert r"Run\x1b[2J?" in text
    assert r"[Run→Walk]\x1b[2J!" in text
    assert "[link=x]y[/link]" in text
    assert r"\x1b[31m[red]" in text


def test_an_unknown_style_lists_the_known_ones(data: Path) -> None:
    with pytest.raises(FsckitError, match=r"no negatives of style 'nope' \(found: negclip, re"):
        shown(data, style="nope")


def test_changed_words_for_insertions_and_deletions() -> None:
    edits = [
        Edit(0, 2, "A ", ""),
        Edit(5, 5, "", " not"),
    ]
    assert changed_words("A cat.", "cat not.", edits, False).plain == "[A →]cat[→ not]."
    assert changed_words("A cat.", "another thing", edits, False).plain == "another thing"


def query(data: Path, sql: str, output: Any, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=100, **options)
    print_query(data, sql, output, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_sql_as_a_table(data: Path) -> None:
    text = query(data, "SELECT caption, 1234567 AS n, NULL AS x FROM samples ORDER BY key", "table")
    assert "A red hat [bold]here[/bold]." in text
    assert r"Run\x1b[2J!" in text
    assert "1,234,567" in text
    assert "the first 200 rows" in query(data, "SELECT * FROM range(201)", "table")
    assert "the first" not in query(data, "SELECT * FROM range(200)", "table")


def test_sql_as_csv_and_json(data: Path) -> None:
    sql = "SELECT key, caption, NULL AS x, 1.5 AS n FROM samples ORDER BY key"
    keys = [f"{shard}{i:04d}" for shard, captions in CAPTIONS.items() for i in range(len(captions))]
    captions = [caption for captions in CAPTIONS.values() for caption in captions]
    rows = list(csv.reader(io.StringIO(query(data, sql, "csv"))))
    assert rows[0] == ["key", "caption", "x", "n"]
    assert rows[1:] == [[k, c, "", "1.5"] for k, c in zip(keys, captions, strict=True)]
    assert "\x1b" not in query(data, sql, "csv", force_terminal=True)
    assert json.loads(query(data, sql, "json")) == [
        {"key": k, "caption": c, "x": None, "n": 1.5} for k, c in zip(keys, captions, strict=True)
    ]
    assert json.loads(query(data, "SELECT 1 FROM samples WHERE false", "json")) == []
    assert len(json.loads(query(data, "FROM range(2500)", "json"))) == 2500
    edits = query(data, "SELECT edits FROM negatives WHERE style = 'replace'", "json")
    assert json.loads(edits) == [{"edits": BLUE["edits"]}]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT * FROM sample", "DuckDB: Catalog Error: Table with name sample does not exist!"),
        ("", "the SQL is empty"),
        ("SELEC 1", "DuckDB: Parser Error: syntax error"),
        ("SELECT caption::INT FROM samples", "DuckDB: Conversion Error"),
    ],
)
def test_invalid_sql_gives_one_sentence(data: Path, sql: str, words: str) -> None:
    with pytest.raises(FsckitError, match=words) as caught:
        query(data, sql, "table")
    assert "\n" not in str(caught.value)
