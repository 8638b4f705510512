"""Members of tars, read at their places."""

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
from fsctrain.data.tars import Tars
from support import tars as tar_files


@pytest.mark.parametrize(
    "key", ["000", "folder/000", "ключ", "k" * 150, "./x", "a" * 60 + "/" + "b" * 80]
)
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_members_of_any_name(key: str, form: int, tmp_path: Path) -> None:
    if form == tarfile.USTAR_FORMAT and (not key.isascii() or len(key) == 150):
        pytest.skip("no such names in this format")
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in ((f"{key}.jpg", b"picture"), (f"{key}.txt", b"a caption")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    (sample,) = index_tar(path).samples
    tars = Tars([path, tmp_path / "none.tar"])
    assert tars.read(0, sample.key, sample.image_offset, sample.image_size) == b"picture"
    for key, offset, size in (
        ("other", sample.image_offset, 7),
        (sample.key, sample.image_offset + 512, 7),
        (sample.key, sample.image_offset, 8),
        (sample.key, 10**9, 7),
    ):
        if key == "other" and (not sample.key.isascii() or len(sample.key) > 90):
            continue  # such names stand elsewhere in the tar
        with pytest.raises(FsckitError, match="the tar changed since"):
            tars.read(0, key, offset, size)
    with pytest.raises(UnreadableImageError, match="its tar cannot be read"):
        tars.read(1, "000", 512, 7)


def test_an_object() -> None:
    """Of a tar behind fsspec only the member is asked for."""
    path = data_path("memory://tars/x.tar")
    local = io.BytesIO()
    with tarfile.open(fileobj=local, mode="w") as tar:
        info = tarfile.TarInfo("000.jpg")
        info.size = 7
        tar.addfile(info, io.BytesIO(b"picture"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(local.getvalue())
    tars = Tars([path, path.parent / "none.tar"])
    assert tars.read(0, "000", 512, 7) == b"picture"
    with pytest.raises(FsckitError, match="the tar changed since"):
        tars.read(0, "001", 512, 7)
    with pytest.raises(UnreadableImageError, match="its tar cannot be read"):
        tars.read(1, "000", 512, 7)


def test_a_worker_opens_its_own(tmp_path: Path) -> None:
    """Open files do not travel to another process; the tars' names do."""
    path = tar_files.write_tar(tmp_path / "x.tar", [("000.jpg", b"picture")])
    tars = Tars([path])
    tars.read(0, "000", 512, 7)
    assert pickle.loads(pickle.dumps(tars)).read(0, "000", 512, 7) == b"picture"  # noqa: S301


def test_more_tars_than_may_be_open(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("fsctrain.data.tars.OPEN_FILES", 2)
    paths = [
        tar_files.write_tar(tmp_path / f"{i}.tar", [("000.jpg", b"picture%d" % i)])
        for i in range(5)
    ]
    tars = Tars(paths)
    for _ in range(2):
        assert [bytes(tars.read(i, "000", 512, 8)) for i in range(5)] == [
            b"picture%d" % i for i in range(5)
        ]
