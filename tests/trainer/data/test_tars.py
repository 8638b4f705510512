"""Reading members of tars by offset."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fscdata.base.paths import data_path
from fscdata.contract import index_tar
from fsctrain.data.images import UnreadableImageError
from fsctrain.data.tars import TarReader
from support import tars as tar_files


@pytest.mark.parametrize(
    "key", ["000", "folder/000", "ключ", "k" * 150, "./x", "a" * 60 + "/" + "b" * 80]
)
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_reads_members_of_any_name(key: str, form: int, tmp_path: Path) -> None:
    if form == tarfile.USTAR_FORMAT and (not key.isascii() or len(key) == 150):
        pytest.skip("no such names in this format")
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in ((f"{key}.jpg", b"an image"), (f"{key}.txt", b"a caption")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    (sample,) = index_tar(path).samples
    tars = TarReader([path, tmp_path / "none.tar"])
    assert tars.read(0, sample.key, sample.image_offset, sample.image_size) == b"an image"
    for key, offset, size in (
        ("other", sample.image_offset, 8),
        (sample.key, sample.image_offset + 512, 8),
        (sample.key, sample.image_offset, 9),
        (sample.key, 10**9, 8),
    ):
        if key == "other" and (not sample.key.isascii() or len(sample.key) > 90):
            continue  # their names are stored in an extended header
        with pytest.raises(FsckitError, match="the tar changed during the run"):
            tars.read(0, key, offset, size)
    with pytest.raises(UnreadableImageError, match="its tar cannot be read"):
        tars.read(1, "000", 512, 8)


def test_reads_members_of_an_object() -> None:
    """Only the member's range is requested from fsspec."""
    path = data_path("memory://tars/x.tar")
    local = io.BytesIO()
    with tarfile.open(fileobj=local, mode="w") as tar:
        info = tarfile.TarInfo("000.jpg")
        info.size = 8
        tar.addfile(info, io.BytesIO(b"an image"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(local.getvalue())
    tars = TarReader([path, path.parent / "none.tar"])
    assert tars.read(0, "000", 512, 8) == b"an image"
    with pytest.raises(FsckitError, match="the tar changed during the run"):
        tars.read(0, "001", 512, 8)
    with pytest.raises(UnreadableImageError, match="its tar cannot be read"):
        tars.read(1, "000", 512, 8)


def test_pickles_paths_and_not_open_files(tmp_path: Path) -> None:
    """A spawned worker opens the tars itself."""
    path = tar_files.write_tar(tmp_path / "x.tar", [("000.jpg", b"an image")])
    tars = TarReader([path])
    tars.read(0, "000", 512, 8)
    assert pickle.loads(pickle.dumps(tars)).read(0, "000", 512, 8) == b"an image"  # noqa: S301


def test_reads_more_tars_than_it_keeps_open(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("fsctrain.data.tars.OPEN_FILES", 2)
    paths = [
        tar_files.write_tar(tmp_path / f"{i}.tar", [("000.jpg", b"image %d" % i)]) for i in range(5)
    ]
    tars = TarReader(paths)
    for _ in range(2):
        assert [bytes(tars.read(i, "000", 512, 7)) for i in range(5)] == [
            b"image %d" % i for i in range(5)
        ]
