from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fscdata.lexicon import build_lexicon, check_lexicon, read_lexicon


@pytest.mark.slow
def test_nltk_finds_no_difference(wordnet_folder: Path) -> None:
    pytest.importorskip("nltk")
    report = check_lexicon(wordnet_folder, words=40, seed=3)
    assert report.differences == []
    assert set(report.compared) == {"n", "v", "a", "r"}
    assert all(n >= 40 for n in report.compared.values())


@pytest.mark.slow
def test_another_wordnet_differs(
    wordnet_folder: Path,
    tiny_wordnet: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("nltk")
    tiny = read_lexicon(build_lexicon(tiny_wordnet, tmp_path / "out.arrow"))
    monkeypatch.setattr("fscdata.lexicon.check.load_lexicon", lambda: tiny)
    report = check_lexicon(wordnet_folder, words=4)
    assert any("base forms [], nltk has" in line for line in report.differences)
    assert any("is None, nltk has" in line for line in report.differences)


@pytest.mark.slow
def test_a_folder_without_wordnet_is_rejected(tmp_path: Path) -> None:
    pytest.importorskip("nltk")
    with pytest.raises(FsckitError, match=r"data\.noun: cannot be read .* WordNet's database"):
        check_lexicon(tmp_path, words=1)


def test_missing_nltk_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nltk", None)
    with pytest.raises(FsckitError, match=r"pip install 'fsckit\[lexicon\]'"):
        check_lexicon(tmp_path, words=1)
