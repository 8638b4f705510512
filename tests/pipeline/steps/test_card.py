"""A data set's README.md."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
import yaml

from fscdata.contract import (
    NEGATIVES_COLUMNS,
    SAMPLES_COLUMNS,
    negatives_schema,
    samples_schema,
)
from fscdata.steps.card import CARD
from fscdata.steps.expected import Settings
from fscdata.steps.negatives import make_negatives
from support.captions import TEMPLATES
from support.tars import write_shards


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_shards(tmp_path, [[("0", TEMPLATES[:3])], [("1", TEMPLATES[3:5])]])
    return tmp_path


def test_every_column_is_documented() -> None:
    assert list(SAMPLES_COLUMNS) == samples_schema().names
    assert list(NEGATIVES_COLUMNS) == negatives_schema().names


def test_its_header_lists_the_tables_and_its_query_runs(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_negatives(data, Settings("shuffle-2"))
    make_negatives(data, Settings("shuffle-1,imported"))  # nothing was published here
    text = (data / CARD).read_text()
    _, header, body = text.split("---\n", 2)
    configs = {c["config_name"]: c["data_files"] for c in yaml.safe_load(header)["configs"]}
    assert list(configs) == ["samples", "shuffle-1", "shuffle-2"]
    rows = {"samples": 5, "shuffle-1": 25, "shuffle-2": 25}
    monkeypatch.chdir(data)
    for name, (files,) in configs.items():
        assert files["split"] == "train"
        assert len(duckdb.sql(f"FROM '{files['path']}'").fetchall()) == rows[name]
    sql = body.split("```sql\n")[1].split("```")[0]
    assert len(duckdb.sql(sql).fetchall()) == 25


def test_does_not_replace_a_user_s_readme(data: Path) -> None:
    (data / CARD).write_text("mine")
    make_negatives(data, Settings("shuffle-2"))
    assert (data / CARD).read_text() == "mine"
