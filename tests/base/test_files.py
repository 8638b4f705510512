"""Files that come whole or not at all."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fscdata.base.files import atomic_file
from fscdata.base.locks import folder_lock
from fscdata.base.paths import data_path
from fscdata.contract import (
    Metadata,
    Provenance,
    ShardRecord,
    read_metadata,
    read_table,
    remove_temporary,
    samples_schema,
    write_parquet,
)

TABLE = samples_schema().empty_table()
METADATA = Metadata(Provenance("samples", "default", None), ShardRecord("0.tar", 1, "0", "1", 0, 0))


def test_a_table_and_its_metadata_come_back(tmp_path: Path) -> None:
    path = tmp_path / "samples" / "0.parquet"
    written = write_parquet(path, TABLE, METADATA)
    assert written == path.stat().st_size
    assert read_table(path) == TABLE
    assert read_metadata(path) == METADATA
    assert list(path.parent.iterdir()) == [path]


def test_the_name_comes_last_and_two_may_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    with atomic_file(path) as one, atomic_file(path) as two:
        one.write(b"one")
        two.write(b"two")
        assert not path.exists()
        names = [file.name for file in tmp_path.iterdir()]
        assert len(names) == 2
        assert all(n.startswith(".x.parquet.") and n.endswith(".tmp") for n in names)
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), RuntimeError(), FileNotFoundError(2, "", "image.jpg")]
)
def test_an_error_leaves_nothing_and_passes(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"before")
    with pytest.raises(type(error)) as caught, atomic_file(path) as file:
        file.write(b"half")
        raise error
    assert caught.value is error
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "samples").write_bytes(b"no folder")
    with pytest.raises(
        FsckitError, match=r"samples/0.parquet: cannot be written \((Not a dir|File)"
    ):
        write_parquet(tmp_path / "samples" / "0.parquet", TABLE, METADATA)


def test_a_disk_that_is_full_while_writing(tmp_path: Path) -> None:
    """A limit on the size of files fails where a full disk would, in the middle of a write."""
    code = (
        "import sys; from pathlib import Path; from fscdata.base.files import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as file:\n"
        "    file.write(bytes(100_000))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "x.parquet"],
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
        env={"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert "x.parquet: cannot be written (File too large)" in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_remove_temporary_takes_what_a_killed_run_left(tmp_path: Path) -> None:
    left = ["samples/.0.parquet.7-ab.tmp", "negatives/svlc/.0.parquet.tmp"]
    kept = ["samples/0.parquet", "samples/.notes.tmp", "samples/0.parquet.tmp", "x/.0.parquet.tmp"]
    for name in left + kept:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    remove_temporary(tmp_path)
    there = {
        file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()
    }
    assert there == set(kept)


def test_the_lock_is_of_local_folders_alone(tmp_path: Path) -> None:
    busy = pytest.raises(FsckitError, match="another process is using it")
    with folder_lock(tmp_path), busy:
        folder_lock(tmp_path).__enter__()
    with folder_lock(tmp_path):
        pass
    data = data_path("memory://locked")
    with folder_lock(data), folder_lock(data):
        assert not data.exists()
