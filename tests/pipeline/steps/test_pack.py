import json
import os
import struct
import tarfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from fscdata.base.errors import FsckitError
from fscdata.base.locks import folder_lock
from fscdata.base.progress import Progress, Reporter
from fscdata.contract import index_tar, shard_paths
from fscdata.steps.pack import pack


def write_image(path: Path, kind: str = "JPEG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (len(path.name) * 7 % 256, 90, 30)).save(path, kind)
    return path


def table(path: Path, *rows: tuple[str, str]) -> Path:
    path.write_text("image\tcaption\n" + "".join(f"{i}\t{c}\n" for i, c in rows))
    return path


def members(tar: Path) -> dict[str, bytes]:
    with tarfile.open(tar) as file:
        return {m.name: file.extractfile(m).read() for m in file}  # type: ignore[union-attr]


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_round_trip_through_index_tar(tmp_path: Path) -> None:
    images = [write_image(tmp_path / "in" / name) for name in ("b.with.dots.jpg", "a.jpg", "c.jpg")]
    write_image(tmp_path / "in" / "unnamed.jpg")
    long = " ".join(["word"] * 500)
    captions = table(
        tmp_path / "c.tsv",
        ("b.with.dots.jpg", "A dog 🐕 runs."),
        ("a.jpg", "كلب يجري"),
        ("b.with.dots.jpg", "n\0l [red]markup[/red]"),
        ("a.jpg", "?!"),
        ("c.jpg", long),
    )
    report = pack(tmp_path / "data", tmp_path / "in", captions, samples_per_shard=2)
    assert (report.samples, report.captions, report.shards) == (3, 5, 2)
    assert report.unnamed_images == 1
    assert not report.skipped

    tars = shard_paths(tmp_path / "data")
    assert [t.name for t in tars] == ["00000.tar", "00001.tar"]
    assert report.bytes == sum(t.stat().st_size for t in tars)
    samples = [(tar, sample) for tar in tars for sample in index_tar(tar).samples]
    assert [s.key for _, s in samples] == ["000000000", "000000001", "000010000"]
    assert [[c for _, c in s.captions] for _, s in samples] == [
        ["A dog 🐕 runs.", "n\0l [red]markup[/red]"],
        ["كلب يجري", "?!"],
        [long],
    ]
    for (tar, sample), image in zip(samples, images, strict=True):
        start = sample.image_offset
        assert tar.read_bytes()[start : start + sample.image_size] == image.read_bytes()

    first = members(tars[0])
    assert [n.partition(".")[2] for n in first] == ["jpg", "json", "txt"] * 2
    assert json.loads(first["000000000.json"]) == {
        "key": "000000000",
        "captions": ["A dog 🐕 runs.", "n\0l [red]markup[/red]"],
        "file": "b.with.dots.jpg",
    }
    assert first["000000000.txt"].decode() == "A dog 🐕 runs."


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    rows = [(f"{i}.jpg", f"Caption {i}") for i in range(5)]
    for name, _ in rows:
        write_image(tmp_path / "in" / name)
    captions = table(tmp_path / "c.tsv", *rows)
    pack(tmp_path / "one", tmp_path / "in", captions, 2)
    for name, _ in rows:
        os.utime(tmp_path / "in" / name, (1, 1))
    pack(tmp_path / "two", tmp_path / "in", captions, 2)
    one, two = ([t.read_bytes() for t in shard_paths(tmp_path / name)] for name in ("one", "two"))
    assert one == two


def test_the_extension_follows_the_actual_format(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.jpg", "PNG")
    write_image(tmp_path / "in" / "b.png", "WEBP")
    write_image(tmp_path / "in" / "c", "JPEG")
    captions = table(tmp_path / "c.tsv", ("a.jpg", "A"), ("b.png", "B"), ("c", "C"))
    pack(tmp_path / "data", tmp_path / "in", captions)
    [tar] = shard_paths(tmp_path / "data")
    assert [s.image_ext for s in index_tar(tar).samples] == ["png", "webp", "jpg"]


def test_keys_widen_with_the_shard(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.jpg")
    pack(tmp_path / "data", tmp_path / "in", table(tmp_path / "c.tsv", ("a.jpg", "A")), 10_001)
    [tar] = shard_paths(tmp_path / "data")
    assert index_tar(tar).samples[0].key == "0000000000"


def test_published_negatives_are_kept(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "val2014" / "X.jpg")
    write_image(tmp_path / "in" / "val2014" / "Y.jpg")
    captions = tmp_path / "train_neg_clip.tsv"
    captions.write_text(
        "\ttitle\tfilepath\tneg_caption\tneg_image\n"
        "0\tA cat on a mat\tcoco/val2014/X.jpg\t['A mat on a cat', 'A rat on a mat']\t[1]\n"
        "1\tA second caption\tcoco/val2014/X.jpg\tnot a list\t[1]\n"
        "2\tA dog\tcoco/val2014/Y.jpg\t[]\t[0]\n"
    )
    report = pack(tmp_path / "data", tmp_path / "in", captions)
    assert report.published_negatives == 2
    assert report.skipped == {"unreadable published negatives": 1}
    [tar] = shard_paths(tmp_path / "data")
    x, y = index_tar(tar).samples
    assert x.published == {0: ["A mat on a cat", "A rat on a mat"], 1: []}
    assert y.published == {}
    assert "published_negatives" not in json.loads(members(tar)["000000001.json"])


def test_two_names_for_one_image_give_one_sample(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "val" / "X.jpg")
    captions = table(
        tmp_path / "c.tsv", ("val/X.jpg", "One"), ("X.jpg", "Two"), ("coco/val/X.jpg", "One")
    )
    report = pack(tmp_path / "data", tmp_path / "in", captions)
    assert (report.samples, report.captions) == (1, 2)
    assert report.skipped == {"duplicate row": 1}


def huge_png(path: Path) -> None:
    """A PNG whose header says 30,000 x 30,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def test_skipped_images_are_counted_by_reason(tmp_path: Path) -> None:
    images = tmp_path / "in"
    write_image(images / "good.jpg")
    write_image(images / "empty.jpg")
    write_image(images / "1" / "same.jpg")
    write_image(images / "2" / "same.jpg")
    write_image(tmp_path / "secret.jpg")
    (images / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (images / "outside").symlink_to(tmp_path)
    (images / "folder.jpg").mkdir()
    (images / "noise.jpg").write_bytes(b"\xff\xd8 not an image")
    (images / "zero.jpg").write_bytes(b"")
    Image.new("RGB", (2, 2)).save(images / "animation.gif", "GIF")
    huge_png(images / "huge.png")
    names = [
        *("good.jpg", "gone.jpg", "nul\0.jpg", "long" * 100, "folder.jpg", "same.jpg"),
        *("noise.jpg", "zero.jpg", "animation.gif", "huge.png"),
        *("../secret.jpg", "1/../../secret.jpg", "../gone/good.jpg", str(tmp_path / "secret.jpg")),
        *("link.jpg", "outside/secret.jpg"),
    ]
    captions = table(
        tmp_path / "c.tsv", *((name, "A caption") for name in names), ("empty.jpg", " ")
    )
    report = pack(tmp_path / "data", images, captions)
    assert report.samples == 3
    assert report.skipped == {
        "missing image": 4,
        "ambiguous image name": 1,
        "unreadable image": 3,
        "image of too many pixels": 1,
        "outside the image folder": 4,
        "empty caption": 1,
        "no caption": 1,
    }
    [tar] = shard_paths(tmp_path / "data")
    assert [s.captions for s in index_tar(tar).samples] == [[(0, "A caption")]] * 3


def test_nothing_to_pack_is_an_error_with_the_counts(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "other.jpg")
    captions = table(tmp_path / "c.tsv", ("a.jpg", "A"), ("b.jpg", "B"), ("other.jpg", " "))
    with pytest.raises(
        FsckitError, match=r"no caption matches.*missing image: 2, empty caption: 1"
    ):
        pack(tmp_path / "data", tmp_path / "in", captions)
    assert files(tmp_path / "data") == [".fscdata.lock"]


@pytest.mark.parametrize("make", [True, False])
def test_a_folder_without_images_is_rejected(tmp_path: Path, make: bool) -> None:
    if make:
        (tmp_path / "in").mkdir()
    captions = table(tmp_path / "c.tsv", ("a.jpg", "A"))
    with pytest.raises(
        FsckitError, match=r"in: (image folder not found|this image folder is empty)"
    ):
        pack(tmp_path / "data", tmp_path / "in", captions)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("where", ["shards/00000.tar", "00000.tar"])
def test_existing_shards_are_not_overwritten(tmp_path: Path, where: str) -> None:
    write_image(tmp_path / "in" / "a.jpg")
    there = tmp_path / "data" / where
    there.parent.mkdir(parents=True)
    there.write_bytes(b"somebody's")
    with pytest.raises(FsckitError, match="data: already contains shards"):
        pack(tmp_path / "data", tmp_path / "in", table(tmp_path / "c.tsv", ("a.jpg", "A")))
    assert there.read_bytes() == b"somebody's"


def test_a_stopped_run_leaves_no_shards_and_can_be_rerun(tmp_path: Path) -> None:
    rows = [(f"{i}.jpg", f"Caption {i}") for i in range(6)]
    for name, _ in rows:
        write_image(tmp_path / "in" / name)
    captions = table(tmp_path / "c.tsv", *rows)

    def stop(progress: Progress) -> None:
        if progress.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(tmp_path / "data", tmp_path / "in", captions, 2, Reporter(progress=stop))
    assert files(tmp_path / "data") == [".fscdata.lock"]

    (tmp_path / "data" / ".packing").mkdir()  # a killed run cannot clean up
    (tmp_path / "data" / ".packing" / "00007.tar").write_bytes(b"half")
    assert pack(tmp_path / "data", tmp_path / "in", captions, 2).shards == 3
    assert files(tmp_path / "data")[1:] == [f"shards/0000{i}.tar" for i in range(3)]


def test_progress_counts_every_image(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.jpg")
    (tmp_path / "in" / "b.jpg").write_bytes(b"noise")
    seen: list[Progress] = []
    captions = table(tmp_path / "c.tsv", ("b.jpg", "B"), ("a.jpg", "A"))
    pack(tmp_path / "data", tmp_path / "in", captions, 1, Reporter(progress=seen.append))
    assert seen == [Progress("packing c.tsv", done, 2, "images") for done in (1, 2)]


def test_one_run_at_a_time(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.jpg")
    (tmp_path / "data").mkdir()
    with (
        folder_lock(tmp_path / "data"),
        pytest.raises(FsckitError, match="another process is using it"),
    ):
        pack(tmp_path / "data", tmp_path / "in", table(tmp_path / "c.tsv", ("a.jpg", "A")))


def test_samples_per_shard_is_positive(tmp_path: Path) -> None:
    with pytest.raises(FsckitError, match="`samples_per_shard` 0: must be at least 1"):
        pack(tmp_path, tmp_path, tmp_path / "c.tsv", 0)


def captions_of(data: Path) -> dict[str, list[str]]:
    """The captions by the name of the image."""
    records = [
        json.loads(content)
        for tar in shard_paths(data)
        for name, content in members(tar).items()
        if name.endswith(".json")
    ]
    return {record["file"]: record["captions"] for record in records}


def test_links_and_absolute_paths_inside_the_folder_are_read(tmp_path: Path) -> None:
    images = tmp_path / "in"
    write_image(images / "a.jpg")
    write_image(tmp_path / "elsewhere.jpg", "PNG")
    (images / "link.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    (images / "broken.jpg").symlink_to(tmp_path / "gone.jpg")
    os.mkfifo(tmp_path / "pipe")
    (images / "pipe.jpg").symlink_to(tmp_path / "pipe")
    names = [str(images / "a.jpg"), "link.jpg", "broken.jpg", "pipe.jpg"]
    report = pack(tmp_path / "data", images, table(tmp_path / "c.tsv", *((n, n) for n in names)))
    assert captions_of(tmp_path / "data") == {name: [name] for name in names[:2]}
    assert report.skipped == {"missing image": 2}


def test_text_files_beside_the_images(tmp_path: Path) -> None:
    images = tmp_path / "in"
    for name in ("b.jpg", "1/a.jpg", "bad.jpg", "alone.jpg"):
        write_image(images / name)
    (images / "b.txt").write_text("One.\n\nTwo.\n")
    (images / "1" / "a.txt").write_text("Three.")
    (images / "bad.txt").write_bytes(b"\xff\xfe")
    (images / "README.txt").write_text("of no image")
    report = pack(tmp_path / "data", images)
    assert captions_of(tmp_path / "data") == {"1/a.jpg": ["Three."], "b.jpg": ["One.", "Two."]}
    assert report.skipped == {"bad row: not UTF-8": 1}
    assert report.unnamed_images == 2


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_a_hugging_face_image_folder(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / "in" / "a.jpg")
    lines = ["file_name,text", "a.jpg,A dog"]
    if name.endswith("jsonl"):
        lines = ['{"file_name": "a.jpg", "text": "A dog"}']
    (tmp_path / "in" / name).write_text("\n".join(lines))
    pack(tmp_path / "data", tmp_path / "in")
    assert captions_of(tmp_path / "data") == {"a.jpg": ["A dog"]}


def test_images_without_captions_are_an_error(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.jpg")
    with pytest.raises(FsckitError, match=r"no metadata.csv or .* name a file with `captions`"):
        pack(tmp_path / "data", tmp_path / "in")


def test_a_split_is_by_image_and_seed(tmp_path: Path) -> None:
    images = tmp_path / "in"
    for i in range(40):
        path = images / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (i, 0, 0)).save(path)
    (images / "copy.png").write_bytes((images / "0.png").read_bytes())
    names = [*(f"{i}.png" for i in range(40)), "copy.png"]
    captions = table(tmp_path / "c.tsv", *((n, f"{n} {i}") for n in names for i in range(2)))

    def split(name: str, **options: object) -> tuple[set[str], set[str]]:
        data = tmp_path / name
        report = pack(data, images, captions, split={"val": 0.3}, **options)  # type: ignore[arg-type]
        rest, val = (captions_of(d) for d in (data, tmp_path / f"{name}-val"))
        assert report.samples == len(rest) and report.splits["val"].samples == len(val)
        assert all(len(own) == 2 for own in (*rest.values(), *val.values()))
        return set(rest), set(val)

    rest, val = split("one")
    assert not rest & val and rest | val == set(names)
    assert 5 <= len(val) <= 20
    assert ("0.png" in val) == ("copy.png" in val)
    assert split("two", samples_per_shard=3) == (rest, val)
    assert split("three", seed=1) != (rest, val)
    with pytest.raises(FsckitError, match=r"one-val: already contains shards"):
        (tmp_path / "one" / "shards").rename(tmp_path / "moved")
        pack(tmp_path / "one", images, captions, split={"val": 0.3})


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ({"val": 1.0}, "`split` val=1: expected a share between 0 and 1"),
        ({"val": 0.5, "test": 0.5}, "the shares add up to 1 or more"),
        ({"../x": 0.5}, r"`split` '\.\./x': expected a name"),
        ({"val": 1e-9}, "no image falls into val; choose a larger share, or another `seed`"),
    ],
)
def test_an_unusable_split_is_refused(tmp_path: Path, split: dict[str, float], words: str) -> None:
    write_image(tmp_path / "in" / "a.jpg")
    captions = table(tmp_path / "c.tsv", ("a.jpg", "A"))
    with pytest.raises(FsckitError, match=words):
        pack(
            tmp_path / "data",
            tmp_path / "in",
            captions,
            split=split,
        )
    assert not list(tmp_path.glob("data*/shards"))
