"""Places: what a user names them, and the sentences for those that cannot be reached."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fscdata.base.parallel import parallel_map
from fscdata.base.paths import access, data_path, entries, size_of


def test_a_folder_is_a_path_and_a_url_is_not() -> None:
    assert data_path("../some data") == Path("../some data")
    remote = data_path("s3://bucket/a/set/")
    assert not isinstance(remote, Path)
    assert str(remote / "shards" / "0.tar") == "s3://bucket/a/set/shards/0.tar"
    assert remote.name == "set"


def test_google_storage_is_known_where_its_library_is() -> None:
    pytest.importorskip("gcsfs")
    assert str(data_path("gs://bucket/set") / "0.tar") == "gs://bucket/set/0.tar"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("az://box/set", "az://box/set: fsckit knows no az://; give a folder, or one of s3://, gs"),
        ("file:///data", "fsckit knows no file://; give a folder"),
        ("s3://", "s3://: names no folder; write s3://BUCKET/FOLDER"),
        ("gs:///", "gs:///: names no folder"),
    ],
)
def test_what_is_no_place(text: str, words: str) -> None:
    with pytest.raises(FsckitError, match=words):
        data_path(text)


@pytest.mark.parametrize(("scheme", "library"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_a_library_that_is_not_installed(scheme: str, library: str) -> None:
    """In a fresh interpreter: fsspec remembers a class that it has loaded."""
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


def test_local_places_need_no_fsspec(tmp_path: Path) -> None:
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


def test_entries_are_sorted_and_may_be_none(tmp_path: Path) -> None:
    for name in ("b.tar", "a.tar", "a.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in entries(tmp_path, ".tar")] == ["a.tar", "b.tar"]
    assert entries(tmp_path / "gone", ".tar") == entries(tmp_path / "a.txt", "") == []


def test_at_once_keeps_the_order(tmp_path: Path) -> None:
    for size in range(40):
        (tmp_path / f"{size:02d}").write_bytes(bytes(size))
    assert parallel_map(size_of, entries(tmp_path, "")) == list(range(40))
    with pytest.raises(FsckitError, match=r"gone: cannot be read \(No such file or directory\)$"):
        parallel_map(size_of, [tmp_path, tmp_path / "gone"])


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, r"x: cannot be written \(No space left on device\); free some space and"),
        (errno.EDQUOT, r"\(Disk quota exceeded\); free some space"),
        (errno.EROFS, r"\(Read-only file system\); give yourself the right"),
        (errno.EACCES, r"\(Permission denied\); give yourself the right"),
        (errno.EIO, r"\(Input/output error\)$"),
    ],
)
def test_sentences(number: int, words: str) -> None:
    with pytest.raises(FsckitError, match=words), access(Path("x"), "written"):
        raise OSError(number, os.strerror(number))


def test_other_errors_are_let_through() -> None:
    for error in (TypeError("ours"), FsckitError("said already"), OSError("thrift: bad bytes")):
        with pytest.raises(type(error)) as caught, access(Path("x"), "read"):
            raise error
        assert caught.value is error
