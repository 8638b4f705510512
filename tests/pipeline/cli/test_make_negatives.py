"""The output and exit codes of `fscdata make-negatives`, in real processes."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fscdata.contract import read_table, samples_path
from support.captions import TEMPLATES
from support.tars import write_shards
from support.warm import run_warm

pytestmark = pytest.mark.slow

# In the command's process, since each worker takes seconds to load spaCy and its model.
RECIPE = ["--recipe", "fsc-clip", "--variants", "2", "--workers", "0"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    samples = [(f"{i:04d}", [text]) for i, text in enumerate([*TEMPLATES[:58], "dog", ""])]
    write_shards(tmp_path, [samples[i : i + 20] for i in (0, 20, 40)])
    return tmp_path


def command(data: Path, *options: object) -> list[str]:
    return [sys.executable, "-m", "fscdata", "make-negatives", str(data), *map(str, options)]


def run(data: Path, *options: object) -> subprocess.CompletedProcess[str]:
    return run_warm("fscdata", "make-negatives", data, *RECIPE, *options)


def made(data: Path) -> list[str]:
    return sorted(str(path.relative_to(data)) for path in data.rglob("*.parquet"))


def test_the_report_counts_the_tables(data: Path) -> None:
    done = run(data, "--workers", 2)
    assert done.returncode == 0
    assert "\x1b" not in done.stderr
    rows = {
        style: sum(read_table(data / "negatives" / style / f"0000{i}.parquet").num_rows
                   for i in range(3))
        for style in ("negclip", "replace", "shuffle-2")
    }  # fmt: skip
    for style, count in rows.items():
        line = next(line for line in done.stdout.splitlines() if f" {style} " in line)
        assert f" {count:,} " in line
    assert "fewer than two entities: 1" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith("59 captions in 3 shards in ")
    assert last.endswith("0 shards skipped, 0 retried, 0 failed; left out: caption: empty: 1")


def test_json_is_one_object_with_the_same_counts(data: Path) -> None:
    report = json.loads(run(data, "--json").stdout)
    assert (report["shards"], report["captions"], report["failed"]) == (3, 59, {})
    assert report["left_out"] == {"caption: empty": 1}
    assert report["without"]["replace"]["fewer than two entities"] == 1
    negatives = sum(read_table(path).num_rows for path in data.glob("negatives/replace/*"))
    assert report["negatives"]["replace"] == negatives
    sizes = sum(path.stat().st_size for path in data.rglob("*.parquet"))
    assert report["written"] == sizes
    again = json.loads(run(data, "--json").stdout)
    assert (again["shards"], again["skipped"], again["captions"]) == (0, 3, 0)
    assert again["negatives"] == {}


def test_quiet_prints_only_errors(data: Path) -> None:
    tar = data / "shards" / "00001.tar"
    tar.write_bytes(tar.read_bytes()[:5000])
    done = run(data, "--quiet")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"fscdata: {tar}: the tar is damaged")
    assert done.stderr.count("\n") == 1
    assert samples_path(data, "00002").exists()


def test_a_rerun_with_limit_makes_the_next_shards(data: Path) -> None:
    for shards in (1, 2):
        assert run(data, "--limit", 1).returncode == 0
        assert len(made(data)) == shards * 4
    assert samples_path(data, "00001").exists()
    assert run(data, "--limit", 5).returncode == 0
    assert len(made(data)) == 3 * 4


def test_failed_shards_do_not_count_towards_the_limit(data: Path) -> None:
    tar = data / "shards" / "00000.tar"
    tar.write_bytes(tar.read_bytes()[:5000])
    for shards in (1, 2):
        done = run(data, "--limit", 1)
        assert done.returncode == 1
        assert f"{tar}: the tar is damaged" in done.stderr
        assert len(made(data)) == shards * 4


def test_overwrite_remakes_only_tables_with_other_settings(data: Path) -> None:
    assert run(data).returncode == 0
    for shards in (2, 1, 0):
        done = run(data, "--seed", 1, "--overwrite", "--limit", 2, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["shards"] == shards


def test_a_relative_folder_is_relative_to_the_command(data: Path) -> None:
    options = [*RECIPE, "--workers", "1"]  # a worker, which has a working directory of its own
    done = subprocess.run(
        command(Path(data.name), *options), cwd=data.parent, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(made(data)) == 3 * 4


def test_dry_run_counts_and_writes_nothing(data: Path) -> None:
    before = sorted(data.rglob("*"))
    done = run(data, "--dry-run", "--json", "--workers", 2)
    found = json.loads(done.stdout)
    assert (found["shards"], found["skipped"], found["captions"]) == (3, 0, 59)
    assert found["tables"] == [
        "samples", "negatives/negclip", "negatives/replace", "negatives/shuffle-2",
    ]  # fmt: skip
    assert found["per_second"] > 0
    assert sorted(data.rglob("*")) == before
    text = run(data, "--dry-run", "--workers", 2).stdout
    assert text.startswith("3 shards to make, 0 complete; tables per shard: samples, negatives/")
    assert "59 captions at " in text


def test_dry_run_names_an_unreadable_tar(data: Path) -> None:
    tar = data / "shards" / "00001.tar"
    tar.write_bytes(tar.read_bytes()[:5000])
    done = run(data, "--dry-run")
    assert done.returncode == 1
    assert "2 shards to make" in done.stdout
    assert done.stderr.splitlines()[-1].startswith(f"fscdata: {tar}: the tar is damaged")


def test_a_terminal_shows_a_bar(data: Path) -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "200"}
    process = subprocess.Popen(
        command(data, *RECIPE), stdout=subprocess.DEVNULL, stderr=theirs,
        env=environment,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while True:
        try:
            block = os.read(ours, 4096)
        except OSError:  # the process closed its end
            break
        if not block:
            break
        seen += block
    assert process.wait() == 0
    text = seen.decode()
    assert "3 of 3 shards" in text
    assert "59 captions" in text
    assert "1 left out" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            (*RECIPE, "--address", "localhost:1"),
            "--address needs a cluster; add --executor ray",
        ),
        (
            (*RECIPE, "--executor", "ray", "--workers", 0),
            "--workers 0: executor 'ray' needs ",
        ),
        (("--recipe", "negate"), "unknown recipe 'negate'"),
        ((*RECIPE, "--variants", 200), "--variants 200: choose 1 to 127"),
    ],
)
def test_a_mistake_is_one_sentence(data: Path, options: tuple[object, ...], words: str) -> None:
    done = run_warm("fscdata", "make-negatives", data, *options)
    assert done.returncode == 1
    assert done.stderr.startswith("fscdata: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert made(data) == []


def test_a_style_without_negatives_fails(data: Path) -> None:
    """Its tables remain, for their reasons; they have no row group, which readers may trip over."""
    options = ["--recipe", "negclip,imported", "--workers", "0", "--quiet"]
    for _ in range(2):  # a rerun makes nothing, and says the same
        done = run_warm("fscdata", "make-negatives", data, *options)
        assert done.returncode == 1
        message = f"fscdata: {data}: no caption has a negative of imported; find the reasons with "
        assert done.stderr.startswith(message) and done.stderr.count("\n") == 1
    files = [pq.ParquetFile(path) for path in data.glob("negatives/imported/*.parquet")]
    assert [(file.metadata.num_rows, file.num_row_groups) for file in files] == [(0, 0)] * 3
    assert run_warm("fscdata", "verify", data).returncode == 0
    shown = run_warm("fscdata", "sql", data, "FROM coverage WHERE style = 'imported'")
    assert "none published" in shown.stdout
    assert run_warm("fscdata", "make-negatives", data, *options, "--limit", 1).returncode == 0
