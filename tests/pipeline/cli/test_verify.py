"""The output and exit codes of `fscdata verify`."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from fscdata.cli.verify import verify
from fscdata.contract import negatives_path
from fscdata.steps.expected import Settings
from fscdata.steps.negatives import make_negatives
from support.captions import TEMPLATES
from support.tars import write_shards

app = typer.Typer()
app.command()(verify)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    samples = [(f"{i:04d}", [text]) for i, text in enumerate(TEMPLATES[:12])]
    write_shards(tmp_path, [samples[:4], samples[4:8], samples[8:]])
    make_negatives(tmp_path, Settings("shuffle-2"))
    return tmp_path


def run(data: Path, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(data), *options], env={"COLUMNS": "300"})
    return done.exit_code, done.stdout


def put_into_metadata(path: Path, **shard: str) -> None:
    table = pq.read_table(path)
    record = json.loads(table.schema.metadata[b"fsckit"])
    record["shard"].update(shard)
    pq.write_table(table.replace_schema_metadata({b"fsckit": json.dumps(record).encode()}), path)


def test_valid_tables_exit_with_0(data: Path) -> None:
    assert run(data) == (0, f"{data}: 3 tars, 6 tables; no faults\n")
    assert run(data, "--repair") == (0, f"{data}: 3 tars, 6 tables; no faults\n")


@pytest.mark.slow
def test_faults_are_printed_and_exit_with_1_until_repaired(data: Path) -> None:
    path = negatives_path(data, "shuffle-2", "00001")
    before = path.read_bytes()
    path.write_bytes(before[:-9])
    negatives_path(data, "shuffle-2", "00002").unlink()
    (path.parent / ".00000.parquet.tmp").write_bytes(b"half")
    code, output = run(data)
    assert code == 1
    rows = [line.split() for line in output.splitlines()]
    assert ["negatives/shuffle-2/00002.parquet", "missing", "yes"] in rows
    assert [row[-1] for row in rows if row[:1] == ["negatives/shuffle-2/00001.parquet"]] == ["yes"]
    assert [row[-1] for row in rows if "left" in row] == ["harmless"]
    closing = f"{data}: 3 tars, 5 tables; 2 faults in 2 files, 2 repairable: run "
    assert output.endswith(f"{closing}'fscdata verify {data} --repair'\n")

    assert run(data, "--repair") == (
        0, f"{data}: 3 tars, 6 tables, 2 tables repaired; no faults\n"
    )  # fmt: skip
    assert path.read_bytes() == before
    assert list(data.rglob("*.tmp")) == []


def test_untrusted_text_is_escaped(data: Path) -> None:
    put_into_metadata(negatives_path(data, "shuffle-2", "00001"), tar="[red]\x1b[2J" + "x" * 9000)
    code, output = run(data)
    assert code == 1
    assert r"[red]\x1b[2Jxxx" in output
    assert "\x1b" not in output
    assert len(output) < 5000


def test_unrepairable_faults_still_exit_with_1(data: Path) -> None:
    (data / "shards" / "00002.tar").write_bytes(b"garbage")
    code, output = run(data, "--repair")
    assert code == 1
    assert "shards/00002.tar" in output
    assert output.endswith("6 tables; 1 fault in 1 file\n")
