"""Finding modules by name, by path and through entry points."""

from __future__ import annotations

from pathlib import Path

import pytest

from fscdata.base import plugins
from fscdata.base.errors import FsckitError
from fscdata.base.plugins import builtin_names, load_plugin, plugin_names
from fscdata.negatives import styles


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with two entry points; one of its modules is broken."""
    (tmp_path / "elsewhere.py").write_text("VALUE = 3\n")
    (tmp_path / "broken.py").write_text("import nowhere_at_all\n")
    metadata = tmp_path / "elsewhere-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: elsewhere\nVersion: 1.0\n")
    points = "[fscdata.negatives.styles]\nother = elsewhere\nbroken = broken\n"
    (metadata / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins._installed.cache_clear()
    yield tmp_path
    plugins._installed.cache_clear()


def test_finds_modules_and_entry_points(package: Path) -> None:
    own = ["imported", "negclip", "replace", "shuffle", "svlc"]
    assert builtin_names(styles) == own and plugin_names(styles) == [*own, "broken", "other"]
    assert load_plugin("svlc", styles, "style").digest is None
    found = load_plugin("other", styles, "style")
    assert found.module.VALUE == 3 and found.file == str(package / "elsewhere.py")
    assert len(found.digest or "") == 64
    with pytest.raises(FsckitError, match=r"broken \(broken\): cannot be imported \(No module"):
        load_plugin("broken", styles, "style")


def test_finds_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    with pytest.raises(FsckitError, match=r"mine\.py: file not found"):
        load_plugin(str(path), styles, "style")
    path.write_text("VALUE = 4")
    assert load_plugin(str(path), styles, "style").module.VALUE == 4
    path.write_text("VALUE = ")
    with pytest.raises(FsckitError, match=r"mine\.py: cannot be imported \(invalid syntax"):
        load_plugin(str(path), styles, "style")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(FsckitError, match=r"unknown style 'x'; choose imported, .*svlc, or pass a"):
        load_plugin("x", styles, "style")
