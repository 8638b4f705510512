"""What the README promises: its queries, its example style, its tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fscdata.contract import negatives_path, read_table
from fscdata.explore import connect
from fscdata.negatives import styles
from fscdata.steps.expected import Settings
from fscdata.steps.negatives import make_negatives
from support import ROOT
from support.captions import TEMPLATES
from support.tars import write_shards

README = (ROOT / "README.md").read_text()


def blocks(language: str, text: str = README) -> list[str]:
    """The text of fenced blocks."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for name, block in fences if name == language]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_shards(folder, [[(f"{i:03d}", [caption]) for i, caption in enumerate(TEMPLATES[:20])]])
    make_negatives(folder, Settings("fsc-clip", variants=4))
    return folder


def test_each_query_gives_the_columns_shown_below_it(data: Path) -> None:
    docs = README + (ROOT / "docs" / "queries.md").read_text()
    queries = blocks("sql", docs)
    assert len(queries) == 5
    for query in queries:
        result = connect(data).sql(query)
        assert result.fetchall()
        answer = docs.split(query)[1].split("```")[2].strip().splitlines()
        assert answer[0] == ",".join(result.columns)


def test_the_example_style_works(data: Path, tmp_path: Path, monkeypatch) -> None:
    example = next(block for block in blocks("python") if "class Negate" in block)
    (tmp_path / "negate.py").write_text(example)
    monkeypatch.setattr(styles, "__path__", [*styles.__path__, str(tmp_path)])
    make_negatives(data, Settings("negate", variants=4))
    rows = read_table(negatives_path(data, "negate", "00000")).to_pylist()
    assert "A man is not sitting on a red car." in {row["negative"] for row in rows}


def tree_paths() -> set[str]:
    """Every file and folder that the tree names, relative to the repository.

    A line names one or more entries, separated by " · ", at its indentation below the folder above.
    """
    tree = next(block for block in blocks("") if block.startswith("pipeline/fscdata/"))
    paths: set[str] = set()
    folders: list[tuple[int, str]] = []
    for line in tree.splitlines():
        indent = len(line) - len(line.lstrip())
        names = re.findall(r"(?:^|· )([\w./{},-]+)", line.strip())
        while folders and folders[-1][0] >= indent:
            folders.pop()
        parent = "".join(name for _, name in folders)
        for name in names:
            paths.add(parent + name)
        if names and names[0].endswith("/"):
            folders.append((indent, names[0]))
    return paths


def test_the_tree_names_existing_files_and_every_module() -> None:
    paths = tree_paths()
    missing = {path for path in paths if not (ROOT / path).exists()}
    assert not missing, missing
    modules = {
        path.relative_to(ROOT).as_posix()
        for folder in ("pipeline/fscdata", "trainer/fsctrain")
        for path in (ROOT / folder).rglob("*.py")
        if not path.name.startswith("_")
    }
    # A folder whose files are all of one sort is named as a whole.
    collected = tuple(path for path in paths if path.endswith(("/styles/", "/kinds/", "/losses/")))
    unnamed = {path for path in modules - paths if not path.startswith(collected)}
    assert not unnamed, unnamed
