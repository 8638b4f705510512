"""What the README says can be done: its questions, its example style, its tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fscdata.contract import negatives_path, read_table
from fscdata.explore import connect
from fscdata.negatives import styles
from fscdata.steps.negatives import make_negatives
from fscdata.steps.plan import Settings
from support import ROOT
from support.captions import TEMPLATES
from support.tars import write_shards

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [text for name, text in fences if name == language]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_shards(folder, [[(f"{i:03d}", [caption]) for i, caption in enumerate(TEMPLATES[:20])]])
    make_negatives(folder, Settings("fsc-clip", variants=4))
    return folder


def test_five_questions_are_answered(data: Path) -> None:
    queries = blocks("sql")
    assert len(queries) == 5
    for query in queries:
        result = connect(data).sql(query)
        assert result.fetchall()
        # The answer printed below the question has the columns that the query gives.
        answer = README.split(query)[1].split("```")[2].strip().splitlines()
        assert answer[0] == ",".join(result.columns)


def test_the_example_style_works(data: Path, tmp_path: Path, monkeypatch) -> None:
    example = next(block for block in blocks("python") if "class Negate" in block)
    (tmp_path / "negate.py").write_text(example)
    monkeypatch.setattr(styles, "__path__", [*styles.__path__, str(tmp_path)])
    make_negatives(data, Settings("negate", variants=4))
    rows = read_table(negatives_path(data, "negate", "00000")).to_pylist()
    assert "A man is not sitting on a red car." in {row["negative"] for row in rows}


def test_the_tree_names_files_that_are_there() -> None:
    tree = next(block for block in blocks("") if block.startswith("pipeline/fscdata/"))
    names = set(re.findall(r"[\w-]+\.(?:py|yaml|md|arrow)\b", tree))
    there = {p.name for f in ("pipeline", "trainer", "demo", "docs") for p in (ROOT / f).rglob("*")}
    assert names <= there, names - there
    modules = {
        p.name
        for folder in ("pipeline/fscdata", "trainer/fsctrain")
        for p in [*(ROOT / folder).glob("*.py"), *(ROOT / folder).glob("negatives/styles/*.py")]
        if not p.name.startswith("_")
    }
    assert modules <= names, modules - names
