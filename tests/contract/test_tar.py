"""Indexing tars: image offsets, captions, and what is rejected or left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fscdata.base.text import printable
from fscdata.contract import CaptionSource, index_tar
from support.tars import img2dataset_sample, jpeg, sample, write_tar


def test_offsets_are_the_images_byte_ranges(tmp_path: Path) -> None:
    members = [*sample("0001", ["one", "two"]), *img2dataset_sample("0002", "three")]
    path = write_tar(tmp_path / "a.tar", members)
    index = index_tar(path)
    raw = path.read_bytes()
    assert [s.key for s in index.samples] == ["0001", "0002"]
    for item in index.samples:
        assert raw[item.image_offset : item.image_offset + item.image_size] == jpeg()
        assert item.image_ext == "jpg"
    assert index.samples[0].captions == [(0, "one"), (1, "two")]
    assert index.samples[1].captions == [(0, "three")]
    assert index.without == {}


def test_caption_sources(tmp_path: Path) -> None:
    folder = tmp_path / "coca"
    folder.mkdir()
    (folder / "0002.txt").write_text("from the folder\n\nsecond line\n")
    record = {"caption": "usual", "other": ["x", "y"]}
    members = [
        ("0002.jpg", jpeg()),
        ("0002.txt", b"from txt"),
        ("0002.json", json.dumps(record).encode()),
    ]
    path = write_tar(tmp_path / "a.tar", members)
    get = lambda source: index_tar(path, source).samples[0].captions  # noqa: E731
    assert get(CaptionSource()) == [(0, "usual")]
    assert get(CaptionSource(json_key="other")) == [(0, "x"), (1, "y")]
    assert get(CaptionSource(folder=folder)) == [(0, "from the folder"), (1, "second line")]
    for source in (CaptionSource(), CaptionSource(json_key="other")):
        assert CaptionSource.inside_tar(str(source)) == source
    assert str(CaptionSource(folder=folder)) == "folder:coca"
    assert CaptionSource.inside_tar("folder:coca") is None


def test_a_txt_without_json_is_a_caption(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("1.png", jpeg()), ("1.txt", "schön".encode())])
    assert index_tar(path).samples[0].captions == [(0, "schön")]


def test_left_out_samples_and_captions_are_counted(tmp_path: Path) -> None:
    members = [
        *sample("0", []),
        *sample("1", ["", "  ", "kept", 7]),
        ("2.json", b'{"caption": "no image"}'),
        ("3.jpg", jpeg()),
        ("3.json", b"{broken"),
        ("4.jpg", jpeg()),
        ("4.txt", b"\xff\xfe not UTF-8"),
        ("5.jpg", jpeg()),
        ("5.json", b'{"caption": "half a surrogate \\ud800"}'),
        ("6.jpg", jpeg()),
        ("6.json", b"[" * 100_000),
    ]
    index = index_tar(write_tar(tmp_path / "a.tar", members))
    assert [(s.key, s.captions) for s in index.samples] == [("1", [(2, "kept")])]
    assert index.without == {
        "caption: empty": 2,
        "caption: not UTF-8": 2,
        "caption: not a string": 1,
        "sample: no caption": 3,
        "sample: no image": 1,
        "sample: unreadable json": 2,
    }


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.b.jpg", b"x")], "has a dot in its key"),
        ([("a.jpg", b"x"), ("b.jpg", b"x"), ("a.txt", b"x")], "'a' occurs twice"),
        ([("a.jpg", b"x"), ("a.png", b"x")], "'a' occurs twice"),
    ],
)
def test_bad_keys_are_rejected(tmp_path: Path, members, message: str) -> None:
    path = write_tar(tmp_path / "a.tar", members)
    with pytest.raises(FsckitError, match=message) as error:
        index_tar(path)
    assert "a.tar" in str(error.value)


def test_a_name_that_is_not_utf8_is_rejected(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("caf\udce9.jpg", b"x")])
    with pytest.raises(FsckitError, match=r"member name 'caf\\udce9\.jpg' is not UTF-8"):
        index_tar(path)


def test_excess_captions_and_oversized_members_are_counted(tmp_path: Path) -> None:
    members = sample("0", [f"caption {i}" for i in range(1005)])
    members += [("1.jpg", jpeg()), ("1.txt", b"a" * (16 * 2**20 + 1))]
    index = index_tar(write_tar(tmp_path / "a.tar", members))
    assert len(index.samples[0].captions) == 1000
    assert index.without == {
        "caption: beyond 1000 of one sample": 5,
        "sample: json or txt larger than 16 MB": 1,
    }


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_a_truncated_tar_is_rejected(tmp_path: Path, keep: float) -> None:
    members = [m for i in range(20) for m in sample(str(i), ["a caption"])]
    path = write_tar(tmp_path / "a.tar", members)
    raw = path.read_bytes().rstrip(b"\0")
    path.write_bytes(raw[: int(len(raw) * keep)])
    with pytest.raises(FsckitError, match="damaged"):
        index_tar(path)


def test_a_tar_truncated_between_members_or_overwritten_is_rejected(tmp_path: Path) -> None:
    members = [m for i in range(20) for m in sample(str(i), ["a caption"])]
    path = write_tar(tmp_path / "a.tar", members)
    raw = path.read_bytes()
    offset = index_tar(path).samples[10].image_offset - 512
    for broken in (raw[:offset], raw[:offset] + b"garbage!" * 64 + raw[offset + 512 :]):
        path.write_bytes(broken)
        with pytest.raises(FsckitError, match="damaged"):
            index_tar(path)


@pytest.mark.parametrize("content", [b"", b"not a tar at all" * 100])
def test_garbage_is_rejected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with pytest.raises(FsckitError, match=r"a\.tar: the tar is damaged"):
        index_tar(path)


def test_a_key_cannot_escape_the_caption_folder(tmp_path: Path) -> None:
    folder = tmp_path / "captions"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    path = write_tar(tmp_path / "a.tar", [("../secret.jpg", jpeg())])
    index = index_tar(path, CaptionSource(folder=folder))
    assert index.samples == []
    assert index.without == {"sample: no caption": 1}


def test_digests_change_with_the_content(tmp_path: Path) -> None:
    one = index_tar(write_tar(tmp_path / "1.tar", sample("0", ["a cat"])))
    same = index_tar(write_tar(tmp_path / "2.tar", sample("0", ["a cat"])))
    other = index_tar(write_tar(tmp_path / "3.tar", sample("0", ["a dog"])))
    longer = index_tar(write_tar(tmp_path / "4.tar", sample("0", ["a bird"])))
    assert (one.digest, one.captions_digest) == (same.digest, same.captions_digest)
    assert one.digest == other.digest != longer.digest
    assert len({one.captions_digest, other.captions_digest, longer.captions_digest}) == 3


def test_printable_escapes_control_characters() -> None:
    assert printable("a\x1b[31m\x00\nü") == "a\\x1b[31m\\x00\\nü"
