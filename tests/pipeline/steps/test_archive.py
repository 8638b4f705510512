"""Reads untrusted archives: good, damaged and hostile ones."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import stat
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fscdata.steps import archive
from fscdata.steps.archive import extract, members

FILES = {
    "train/a.jpg": random.Random(0).randbytes(20_000),
    "train/b.JPG": b"",
    "train/notes.txt": b"a dog\n",
    "c.jpg": random.Random(1).randbytes(700),
}
IMAGES = {name: data for name, data in FILES.items() if not name.endswith(".txt")}
ARCHIVES = ["a.zip", "stored.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"]


def write_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as made:
        made.mkdir("train")
        for name, data in files.items():
            made.writestr(name, data)
    return path


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as made:  # type: ignore[call-overload]
        folder = tarfile.TarInfo("train.jpg")
        folder.type = tarfile.DIRTYPE
        made.addfile(folder)
        for name, data in files.items():
            made.addfile(entry(name, size=len(data)), io.BytesIO(data))
    return path


def entry(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def write(path: Path, files: dict[str, bytes] = FILES) -> Path:
    if path.suffix == ".zip":
        method = zipfile.ZIP_STORED if path.stem == "stored" else zipfile.ZIP_DEFLATED
        return write_zip(path, files, method)
    return write_tar(path, files, "w" if path.suffix == ".tar" else f"w:{path.suffix[1:]}")


def read(path: Path, *suffixes: str) -> dict[str, bytes]:
    return {member.name: member.read() for member in members(path, suffixes or (".jpg",))}


def refused(path: Path, *suffixes: str) -> str:
    with pytest.raises(FsckitError) as caught:
        read(path, *suffixes)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: ") and "\n" not in sentence
    return sentence


@pytest.mark.parametrize("name", ARCHIVES)
def test_reads_members_by_suffix(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    assert read(path) == IMAGES
    assert read(path, ".txt") == {"train/notes.txt": b"a dog\n"}
    assert [member.size for member in members(path, (".jpg",))] == [20_000, 0, 700]
    assert list(tmp_path.iterdir()) == [path]  # nothing is unpacked


def test_reads_a_zip_in_any_order(tmp_path: Path) -> None:
    found = list(members(write(tmp_path / "a.zip"), (".jpg",)))
    assert {member.name: member.read() for member in reversed(found)} == IMAGES


def test_skips_unread_members_of_a_tar(tmp_path: Path) -> None:
    names = [member.name for member in members(write(tmp_path / "a.tar.gz"), (".jpg",))]
    assert names == list(IMAGES)


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("/etc/x.jpg", "absolute path"),
        ("//x.jpg", "absolute path"),
        ("C:/x.jpg", "absolute path"),
        ("../x.jpg", "'..'"),
        ("a/../../x.jpg", "'..'"),
    ],
)
def test_refuses_paths_that_leave_the_folder(tmp_path: Path, name: str, bad: str, why: str) -> None:
    path = write(tmp_path / name, {"good.jpg": b"x", bad: b"y"})
    assert f"refused because its member '{bad}' has a" in refused(path) and why in refused(path)
    with pytest.raises(FsckitError, match="refused"):
        extract(path, tmp_path / "out", (".jpg",))
    assert not (tmp_path / "out").exists() and not (tmp_path / "x.jpg").exists()


def test_treats_backslashes_in_a_zip_as_slashes(tmp_path: Path) -> None:
    assert "'..'" in refused(write(tmp_path / "a.zip", {"..\\x.jpg": b""}))
    assert list(read(write(tmp_path / "b.zip", {"a\\x.jpg": b""}))) == ["a/x.jpg"]


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_refuses_a_repeated_name(tmp_path: Path, name: str) -> None:
    assert "'./a.jpg' occurs twice" in refused(
        write(tmp_path / name, {"a.jpg": b"1", "./a.jpg": b"2"})
    )


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_refuses_links_and_devices_in_a_tar(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as made:
        made.addfile(entry("x.jpg", type=kind, linkname="/etc/passwd"))
    assert "'x.jpg' is a link or device" in refused(tmp_path / "a.tar")
    assert read(tmp_path / "a.tar", ".txt") == {}  # not requested, so never read


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_refuses_links_and_devices_in_a_zip(tmp_path: Path, kind: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        info = zipfile.ZipInfo("x.jpg")
        info.create_system, info.external_attr = 3, (kind | 0o644) << 16
        made.writestr(info, "/etc/passwd")
    assert "'x.jpg' is a link or device" in refused(tmp_path / "a.zip")


def patched(path: Path, magic: bytes, offset: int, value: bytes) -> Path:
    """The zip with a field of its (last) directory or file header changed."""
    data = bytearray(path.read_bytes())
    at = data.rindex(magic) + offset
    data[at : at + len(value)] = value
    path.write_bytes(data)
    return path


def test_refuses_an_encrypted_member(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"x.jpg": b"x"})
    assert "is encrypted" in refused(patched(path, b"PK\1\2", 8, b"\1\0"))


def test_refuses_an_unknown_compression(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"x.jpg": b"x"})
    path = patched(path, b"PK\1\2", 10, b"\x09\0")  # Deflate64
    assert "uses compression that Python does not" in refused(path)


def test_refuses_a_huge_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stored.zip", "a.tar"):
        path = write(tmp_path / name, {"x.jpg": bytes(1001)})
        assert len(read(path)["x.jpg"]) == 1001
        monkeypatch.setattr(archive, "MAX_MEMBER", 1000)
        assert "is too large (1,001 bytes)" in refused(path)
        monkeypatch.undo()


@pytest.mark.parametrize("name", ["bomb.zip", "bomb.tar.gz", "bomb.tar.bz2", "bomb.tar.xz"])
def test_refuses_a_bomb(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_UNPACKED", 2**20)
    monkeypatch.setattr(archive, "MAX_RATIO", 100)
    path = write(tmp_path / name, {"x.jpg": bytes(3 * 2**20), "y.jpg": bytes(3 * 2**20)})
    assert "refused" in refused(path)
    # Small requested members beside a large one that is not requested.
    path = write(tmp_path / name, {"x.jpg": b"x", "y.txt": bytes(6 * 2**20), "z.jpg": b"z"})
    if name == "bomb.zip":
        assert read(path) == {"x.jpg": b"x", "z.jpg": b"z"}  # the large one is never unpacked
    else:
        assert "unpacks to more than" in refused(path)


def test_refuses_a_bomb_of_many_small_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like a bomb of overlapping members (Fifield, A better zip bomb, 2019)."""
    monkeypatch.setattr(archive, "MAX_UNPACKED", 2**20)
    monkeypatch.setattr(archive, "MAX_RATIO", 100)
    path = write(tmp_path / "a.zip", {f"{i:03d}.jpg": bytes(50_000) for i in range(400)})
    assert "is too large" in refused(path)


def test_refuses_a_terabyte_long_name(tmp_path: Path) -> None:
    name = entry("././@LongLink", type=tarfile.GNUTYPE_LONGNAME, size=2**40)
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(name.tobuf(tarfile.GNU_FORMAT) + bytes(2**20)))
    assert "unpacks to more than" in refused(path)


def test_refuses_nested_headers(tmp_path: Path) -> None:
    name = entry("././@LongLink", type=tarfile.GNUTYPE_LONGNAME, size=5).tobuf(tarfile.GNU_FORMAT)
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress((name + b"x.jpg".ljust(512, b"\0")) * 5000))
    assert "damaged" in refused(path)


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.6])
def test_refuses_a_truncated_archive(tmp_path: Path, name: str, part: float) -> None:
    path = write(tmp_path / name)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    sentence = refused(path)
    assert "damaged or truncated" in sentence and "delete it and download it again" in sentence


@pytest.mark.parametrize("name", [name for name in ARCHIVES if name != "a.tar"])
def test_refuses_an_archive_without_its_last_byte(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    path.write_bytes(path.read_bytes()[:-1])
    assert "damaged or truncated" in refused(path)


@pytest.mark.parametrize("packed", [gzip, bz2, lzma, None])
def test_refuses_a_tar_without_an_end(tmp_path: Path, packed: object) -> None:
    """tarfile accepts a truncation between two members as the end."""
    whole = write_tar(tmp_path / "a.tar", {"a.jpg": b"a", "b.jpg": b"b"}).read_bytes()
    for data in (whole[: 3 * 512], whole[: 3 * 512] + b"garbage" * 200):
        path = tmp_path / "b.tar"
        path.write_bytes(packed.compress(data) if packed else data)  # type: ignore[attr-defined]
        assert "damaged or truncated" in refused(path)


@pytest.mark.parametrize("name", ["a.zip", "stored.zip", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_detects_flipped_bits(tmp_path: Path, name: str) -> None:
    """All these formats have checksums; every other error is one sentence too."""
    path = write(tmp_path / name)
    whole = path.read_bytes()
    generator = random.Random(name)
    for _ in range(60):
        data = bytearray(whole)
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        path.write_bytes(data)
        try:
            found = read(path)
        except FsckitError as error:
            assert str(error).startswith(f"{path}: ")
        else:
            # A name or a date may have changed, the content may not.
            assert set(found.values()) <= set(IMAGES.values()) | {FILES["train/notes.txt"]}


def test_refuses_a_zip_with_a_wrong_size(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"x.jpg": bytes(5000)})
    assert "damaged" in refused(patched(path, b"PK\1\2", 24, struct.pack("<I", 100)))


def test_refuses_a_file_that_is_not_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(b"<html>" * 500)
    assert "damaged or truncated" in refused(path)
    assert "cannot be read (No such file or directory)" in refused(tmp_path / "none.zip")
    assert "cannot be read (Is a directory)" in refused(tmp_path)


def test_reads_two_gz_streams_as_one_file(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "a.tar", FILES).read_bytes()
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(whole[:5000]) + gzip.compress(whole[5000:]))
    assert read(path) == IMAGES


def test_decodes_names_in_odd_encodings(tmp_path: Path) -> None:
    # UTF-8 without the flag, code page 437, UTF-8 with the flag.
    for raw, name in ((b"caf\xc3\xa9.jpg", "café.jpg"), (b"caf\x82.jpg", "café.jpg")):
        path = write_zip(tmp_path / "a.zip", {"cafXX.jpg"[: len(raw) - 4] + ".jpg": b"x"})
        path.write_bytes(path.read_bytes().replace(b"caf" + b"X" * (len(raw) - 7), raw[:-4]))
        assert read(path) == {name: b"x"}
    assert read(write_zip(tmp_path / "b.zip", {"日本.jpg": b"x"})) == {"日本.jpg": b"x"}

    for encoding, name in (("utf-8", "café.jpg"), ("latin-1", "café.jpg")):
        for form in (tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
            with tarfile.open(tmp_path / "a.tar", "w", encoding=encoding, format=form) as made:
                made.addfile(entry("café.jpg"))
            assert read(tmp_path / "a.tar") == {name: b""}


def test_escapes_control_characters(tmp_path: Path) -> None:
    sentence = refused(write(tmp_path / "a.zip", {"../\x1b[2Jx.jpg": b""}))
    assert "\x1b" not in sentence and "\\x1b" in sentence


def texts(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


CAPTIONS = {f"coca_captions/{i:09d}.txt": b"a dog %d\n" % i for i in range(300)}


def test_extract_omits_a_single_top_folder(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar.gz", CAPTIONS | {"coca_captions/x.sh": b"rm"}, "w:gz")
    extract(path, tmp_path / "captions", (".txt",))
    expected = {name.removeprefix("coca_captions/"): data for name, data in CAPTIONS.items()}
    assert texts(tmp_path / "captions") == expected
    rest = sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".lock")
    assert rest == ["a.tar.gz", "captions"]


def test_extract_keeps_several_folders(tmp_path: Path) -> None:
    files = {"a/x.txt": b"1", "b/x.txt": b"2", "c.txt": b"3"}
    (tmp_path / "out").mkdir()  # an empty one is replaced
    extract(write_zip(tmp_path / "a.zip", files), tmp_path / "out", (".txt",))
    assert texts(tmp_path / "out") == files


def test_extract_keeps_an_existing_folder(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", CAPTIONS)
    extract(path, tmp_path / "out", (".txt",))
    path.unlink()
    extract(path, tmp_path / "out", (".txt",))
    assert len(texts(tmp_path / "out")) == len(CAPTIONS)


@pytest.mark.parametrize(
    "files", [{"a.txt": b"", "a.txt/b.txt": b""}, {"x" * 300 + ".txt": b""}, {"a.jpg": b""}]
)
def test_extract_leaves_nothing_when_it_fails(tmp_path: Path, files: dict[str, bytes]) -> None:
    path = write_tar(tmp_path / "a.tar", files)
    with pytest.raises(FsckitError):
        extract(path, tmp_path / "out", (".txt",))
    assert sorted(p.name for p in tmp_path.iterdir()) == [".out.lock", "a.tar"]


def test_a_killed_extract_leaves_no_folder(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {f"t/{i}.txt": b"x" for i in range(600)})
    code = "import sys, pathlib; from fscdata.steps.archive import extract; "
    code += "extract(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), ('.txt',))"
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "out")]
    process = subprocess.Popen(command)
    started: Callable[[], bool] = (tmp_path / ".out.tmp" / "t" / "30.txt").exists
    while not started():
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not (tmp_path / "out").exists()
    assert subprocess.run(command, check=False).returncode == 0
    assert len(list((tmp_path / "out").iterdir())) == 600
    assert not (tmp_path / ".out.tmp").exists()
