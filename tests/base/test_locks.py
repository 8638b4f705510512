"""Locks shared by processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fscdata.base.locks import file_lock, folder_lock
from fscdata.base.paths import data_path


def test_a_folder_is_locked_once(tmp_path: Path) -> None:
    busy = pytest.raises(FsckitError, match="another process is using it; wait for it to finish")
    with folder_lock(tmp_path), busy:
        folder_lock(tmp_path).__enter__()
    with folder_lock(tmp_path):
        pass


def test_an_object_store_is_not_locked() -> None:
    data = data_path("memory://locked")
    with folder_lock(data), folder_lock(data):
        assert not data.exists()


def test_a_file_is_locked_before_it_exists(tmp_path: Path) -> None:
    target = tmp_path / "new" / "x.zip"
    busy = pytest.raises(FsckitError, match=r"x\.zip: another process is using it; try tomorrow")
    with file_lock(target), busy:
        file_lock(target, "try tomorrow").__enter__()
    with file_lock(target), file_lock(target.with_name("y.zip")):
        assert not target.exists()


def test_reports_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FsckitError, match="cannot be written"), file_lock(tmp_path / "file" / "x"):
        pass
