import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fscdata.base.progress import Progress, Reporter
from fscdata.contract import index_tar, shard_paths
from fscdata.steps.images import ImageArchives
from fscdata.steps.pack import pack, pack_images
from support.tars import jpeg


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, jpeg((len(name), 9, 9)) if "broken" not in name else b"no")
    return path


def gz(path: Path, *names: str) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            info, content = tarfile.TarInfo(name), jpeg((len(name), 9, 9))
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def table(path: Path, *names: str) -> Path:
    path.write_text("image\tcaption\n" + "".join(f"{n}\tOf {n}.\n" for n in names))
    return path


def test_names_match_members_of_any_archive(tmp_path: Path) -> None:
    one = zipped(tmp_path / "one.zip", "a/x.jpg", "a/y.jpg", "a/notes.txt", "a/broken.jpg")
    two = gz(tmp_path / "two.tar.gz", "b/x.jpg", "b/z.jpg", "b/unnamed.jpg")
    names = ("b/z.jpg", "a/x.jpg", "coco/a/y.jpg", "x.jpg", "gone.jpg", "../a/y.jpg", "broken.jpg")
    captions = table(tmp_path / "c.tsv", *names, "a/notes.txt")
    seen: list[Progress] = []
    report = pack_images(
        tmp_path / "data", ImageArchives([one, two]), captions, Reporter(progress=seen.append)
    )
    assert report.skipped == {
        "ambiguous image name": 1,
        "missing image": 2,
        "outside the image folder": 1,
        "unreadable image": 1,
    }
    assert (report.samples, report.unnamed_images) == (3, 2)
    assert seen[-1] == Progress("packing c.tsv", 4, 4, "images")
    [tar] = shard_paths(tmp_path / "data")
    order = [caption for sample in index_tar(tar).samples for _, caption in sample.captions]
    assert order == ["Of a/x.jpg.", "Of coco/a/y.jpg.", "Of b/z.jpg."], (
        "in the order of the archives"
    )


def test_archive_and_folder_give_identical_shards(tmp_path: Path) -> None:
    names = ("in/1.jpg", "in/22.jpg", "in/333.jpg")
    archive = zipped(tmp_path / "in.zip", *names)
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path / "out")
    captions = table(tmp_path / "c.tsv", *names)
    (tmp_path / "one").mkdir()
    pack_images(tmp_path / "one", ImageArchives([archive]), captions)
    pack(tmp_path / "two", tmp_path / "out", captions)
    one, two = ([tar.read_bytes() for tar in shard_paths(tmp_path / n)] for n in ("one", "two"))
    assert one == two


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("a.txt",), r"a\.zip: contains no images"),
        (("../a.jpg",), r"a\.zip: refused.*'\.\.'"),
    ],
)
def test_useless_archives_are_rejected(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    with pytest.raises(FsckitError, match=words):
        ImageArchives([zipped(tmp_path / "a.zip", *names)])
