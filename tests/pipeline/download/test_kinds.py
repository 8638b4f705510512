"""Finds the kinds of manifest by their file names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fscdata.download import kinds
from fscdata.download.manifest import find_kind, kind_names
from fscdata.download.run import Options, download, is_complete, plan, retry
from support.manifests import manifest, tree

NOTE = '''
"""A text from the manifest itself."""

from pathlib import Path
from typing import ClassVar, Literal

from fscdata.download.kind import Manifest


class Kind(Manifest):
    uses: ClassVar = frozenset({"workers"})

    kind: Literal["note"]
    text: str

    @property
    def has_samples(self):
        return False

    def fetch(self, session):
        (session.folder / "note.txt").write_text(self.text * (session.options.workers or 1))
        session.require("note.txt")

    def closing_notes(self, folder, left_out):
        return [f"read {folder / 'note.txt'}"]
'''


@pytest.fixture
def note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sixth kind: one file in another folder, nothing else."""
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "note.py").write_text(NOTE)
    monkeypatch.setattr(kinds, "__path__", [*kinds.__path__, str(folder)])
    monkeypatch.setitem(sys.modules, "fscdata.download.kinds.note", None)
    del sys.modules["fscdata.download.kinds.note"]  # monkeypatch removes it again at the end


@pytest.mark.usefixtures("note")
def test_a_sixth_kind_is_one_file(tmp_path: Path) -> None:
    assert kind_names() == ["archive", "files", "huggingface", "local", "note", "urls"]
    data = tmp_path / "data"
    small = manifest(tmp_path, kind="note", text="A cat.")
    assert plan(small) == []
    report = download(small, data, Options(workers=2))
    assert tree(data) == {"note.txt": b"A cat.A cat."}
    assert small.closing_notes(data, report.source.left_out) == [f"read {data}/note.txt"]
    assert download(small, data).already
    (data / "note.txt").unlink()
    assert not is_complete(small, data)
    assert not download(small, data).already
    assert tree(data) == {"note.txt": b"A cat."}
    with pytest.raises(FsckitError, match="contains 'Small' from another manifest"):
        download(manifest(tmp_path, kind="note", text="A dog."), data)
    with pytest.raises(FsckitError, match="kind 'note' does not use `keep_archives`"):
        download(small, data, Options(keep_archives=True))
    with pytest.raises(FsckitError, match="only URL tables can be retried"):
        retry(data)


def test_an_unknown_kind_lists_the_known_ones() -> None:
    for name in ("note", "../run", "__init__", "", None, ["files"]):
        with pytest.raises(FsckitError, match=r"unknown kind .*; choose archive, files, hugging"):
            find_kind(name)


def test_only_the_chosen_kind_is_imported() -> None:
    code = (
        "import sys; from fscdata.download.manifest import load_manifest\n"
        "load_manifest('sugarcrepe')\n"
        "print([name for name in sys.modules if name.startswith('fscdata.download.kinds.')])\n"
        "print({'requests', 'huggingface_hub'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['fscdata.download.kinds.files']\nset()\n"
