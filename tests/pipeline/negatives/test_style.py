"""Styles from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fscdata.contract import negatives_path, read_metadata, read_table
from fscdata.negatives.style import create_style
from fscdata.steps.expected import Settings
from fscdata.steps.negatives import make_negatives
from support.tars import write_shards

STYLE = """
from fscdata.negatives.style import Edit, Negative, Style

class Loud(Style):
    name = "loud"
    version = 1
    uses_parse = False

    def negatives(self, caption, draw, variants):
        edit = Edit(len(caption.text), len(caption.text), "", "!")
        return [Negative(caption.text + "!", "loud", [edit])]

def create(argument):
    return Loud()
"""


@pytest.fixture
def style(tmp_path: Path) -> Path:
    path = tmp_path / "my-style.py"
    path.write_text(STYLE)
    return path


def test_a_style_may_be_a_file(
    style: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tables record the file's digest, so a changed style needs `overwrite`."""
    data = tmp_path / "data"
    write_shards(data, [[("0", ["a dog", "a cat"])]])
    monkeypatch.chdir(tmp_path)
    report = make_negatives(data, Settings(f"shuffle-1,{style.name}"))
    assert report.negatives == {"shuffle-1": 2, "loud": 2}
    table = negatives_path(data, "loud", "00000")
    assert read_table(table)["negative"].to_pylist() == ["a dog!", "a cat!"]
    options = read_metadata(table).provenance.options
    assert options == {"file_sha256": create_style(str(style)).digest}
    style.write_text(STYLE + "# changed")
    with pytest.raises(FsckitError, match=r"made with options .*to remake it, add `overwrite`"):
        make_negatives(data, Settings(str(style)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("def create(", "def make(", "needs a function create"),
        ("return Loud()", "return 3", "needs a function create"),
        ('"loud"', '"negclip"', "the style's name 'negclip' is taken"),
        ('"loud"', '"../loud"', "is taken or not a lowercase word"),
    ],
)
def test_a_broken_style_is_reported(old: str, new: str, message: str, style: Path) -> None:
    style.write_text(STYLE.replace(old, new))
    with pytest.raises(FsckitError, match=f"my-style.py: .*{message}"):
        create_style(str(style))
