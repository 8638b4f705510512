"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from fscdata.base.files import atomic_file, atomic_folder, write_text


def test_two_writers_of_one_file_both_succeed(tmp_path: Path) -> None:
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
def test_an_error_in_the_block_keeps_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"before")
    with pytest.raises(type(error)) as caught, atomic_file(path) as file:
        file.write(b"half")
        raise error
    assert caught.value is error
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """A limit on file size fails in the middle of a write, as a full disk does."""
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


def test_write_text_replaces_a_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.txt"
    for text in ("one", "zwölf"):
        write_text(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    (tmp_path / ".x.tmp").mkdir()
    (tmp_path / ".x.tmp" / "left").touch()  # left by a killed process
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "x") as temporary:
        (temporary / "half").touch()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(tmp_path / "x") as temporary:
        (temporary / "file").write_text("complete")
        assert not (tmp_path / "x").exists()
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["x", "x/file"]
