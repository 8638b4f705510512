"""Paths and URLs, and the errors for unreachable ones."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fscdata.base.paths import access, data_path, entries


def test_a_folder_is_a_path_and_a_url_is_a_upath() -> None:
    assert data_path("../some data") == Path("../some data")
    remote = data_path("s3://bucket/a/set/")
    assert not isinstance(remote, Path)
    assert str(remote / "shards" / "0.tar") == "s3://bucket/a/set/shards/0.tar"
    assert remote.name == "set"


def test_accepts_google_storage_with_gcsfs() -> None:
    pytest.importorskip("gcsfs")
    assert str(data_path("gs://bucket/set") / "0.tar") == "gs://bucket/set/0.tar"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("az://box/set", "az://box/set: unknown scheme az://; use a local folder, s3://, gs"),
        ("file:///data", "unknown scheme file://; use a local folder"),
        ("s3://", "s3://: the bucket is missing; write s3://BUCKET/FOLDER"),
        ("gs:///", "gs:///: the bucket is missing"),
    ],
)
def test_rejects_an_invalid_url(text: str, words: str) -> None:
    with pytest.raises(FsckitError, match=words):
        data_path(text)


@pytest.mark.parametrize(("scheme", "library"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_names_the_extra_of_a_missing_package(scheme: str, library: str) -> None:
    """Uses a fresh interpreter, because fsspec caches the classes it has loaded."""
    code = (
        f"import sys; sys.modules['{library}'] = None\n"
        "from fscdata.base.paths import data_path\n"
        "data_path(sys.argv[1])"
    )
    url = f"{scheme}://bucket/set"
    done = subprocess.run(
        [sys.executable, "-c", code, url], check=False, capture_output=True, text=True
    )
    last = done.stderr.splitlines()[-1]
    assert last.endswith(f"is not installed; run: pip install 'fsckit[{scheme}]'")
    assert url in last


def test_local_folders_import_no_fsspec(tmp_path: Path) -> None:
    (tmp_path / "a.tar").touch()
    code = (
        "import sys\n"
        "from fscdata.base.paths import data_path; from fscdata.contract import shard_paths\n"
        "shard_paths(data_path(sys.argv[1]))\n"
        "print(sorted({'upath', 'fsspec', 'torch', 'duckdb'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_entries_are_sorted_and_empty_for_a_missing_folder(tmp_path: Path) -> None:
    for name in ("b.tar", "a.tar", "a.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in entries(tmp_path, ".tar")] == ["a.tar", "b.tar"]
    assert entries(tmp_path / "gone", ".tar") == entries(tmp_path / "a.txt", "") == []


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, r"x: cannot be written \(No space left on device\); free some space and"),
        (errno.EDQUOT, r"\(Disk quota exceeded\); free some space"),
        (errno.EROFS, r"\(Read-only file system\); change its permissions"),
        (errno.EACCES, r"\(Permission denied\); change its permissions"),
        (errno.EIO, r"\(Input/output error\)$"),
    ],
)
def test_a_file_system_error_names_the_fix(number: int, words: str) -> None:
    with pytest.raises(FsckitError, match=words), access(Path("x"), "written"):
        raise OSError(number, os.strerror(number))


def test_other_errors_pass_through() -> None:
    for error in (TypeError("ours"), FsckitError("said already"), OSError("thrift: bad bytes")):
        with pytest.raises(type(error)) as caught, access(Path("x"), "read"):
            raise error
        assert caught.value is error
