"""Downloads archives, plain files and a user's own images from servers on loopback."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fscdata.base.locks import folder_lock
from fscdata.base.progress import Progress, Reporter
from fscdata.contract import index_tar, shard_paths
from fscdata.download.record import read_source
from fscdata.download.run import Options, download, is_complete, plan
from fscdata.download.session import bytes_on_disk
from fscdata.steps.expected import Settings
from fscdata.steps.negatives import make_negatives
from support import TESTS
from support.captions import TEMPLATES
from support.file_server import HTML, Answer, Drop, FileServer, Served
from support.manifests import IMAGES, manifest, serve_coco, tree
from support.tars import img2dataset_sample, jpeg, write_tar


@pytest.mark.slow
def test_a_coco_zip_becomes_shards_for_make_negatives(tmp_path: Path) -> None:
    data = tmp_path / "coco"
    with FileServer() as server:
        small = serve_coco(server, tmp_path)
        report = download(small, data)
    assert (report.shards, report.source.samples, report.source.captions) == (2, IMAGES, IMAGES)
    assert report.source.left_out == {"missing image": 1}
    assert report.bytes == sum(len(file.content) for file in server.files.values())
    assert sorted(tree(data)) == [
        "shards/00000.tar",
        "sources/train_neg_clip.tsv",
        "sources/valid_neg_clip.tsv",
        "valid/shards/00000.tar",
    ]
    [tar] = shard_paths(data)
    samples = index_tar(tar).samples
    assert [sample.captions for sample in samples] == [[(0, TEMPLATES[i])] for i in range(10)]
    zipped = zipfile.ZipFile(io.BytesIO(server.files["/val2014.zip"].content))
    last = samples[-1]
    image = tar.read_bytes()[last.image_offset : last.image_offset + last.image_size]
    assert image == zipped.read("val2014/COCO_val2014_000000000009.jpg")

    made = make_negatives(data, Settings("fsc-clip,imported"))
    assert not made.failed
    assert made.negatives["imported"] == 10
    assert made.negatives["negclip"] >= 8


@pytest.mark.slow
def test_both_commands_use_the_download(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    data, valid = tmp_path / "coco", tmp_path / "coco" / "valid"
    tiny = TESTS / "trainer" / "tiny.json"
    with FileServer() as server:
        serve_coco(server, tmp_path)
        for words in (
            ["fscdata", "download", tmp_path / "small.yaml", data],
            ["fscdata", "make-negatives", data, "--recipe", "fsc-clip,imported"],
            ["fscdata", "make-negatives", valid, "--recipe", "imported"],
            ["fsctrain", "run", "--recipe", "negclip", "--data", data, "--out", tmp_path / "runs",
             "--model", tiny, "--pretrained", "none", "--batch-size", "5", "--steps", "2",
             "--device", "cpu", "--workers", "0", "--validation", valid],
        ):  # fmt: skip
            command = [sys.executable, "-m", *(str(word) for word in words)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
    [weights] = (tmp_path / "runs").glob("*/checkpoint/open_clip_model.safetensors")
    assert weights.stat().st_size > 0


def test_the_record_has_the_sources_and_the_terms(tmp_path: Path) -> None:
    with FileServer() as server:
        small = serve_coco(server, tmp_path)
        download(small, tmp_path / "coco")
        record = json.loads((tmp_path / "coco" / "SOURCE.json").read_text())
        assert record["complete"] is True
        assert record["licence"]["terms"] == small.licence.terms
        assert record["citation"] == small.citation
        assert [file["name"] for file in record["files"]] == sorted(
            f.name for f in small.remote_files()
        )
        for file in record["files"]:
            served = server.files[f"/{file['name']}"]
            assert file["address"] == f"{server.url}/{file['name']}"
            assert (file["size"], file["etag"]) == (len(served.content), served.tag)
            assert len(file["sha256"]) == 64


def test_a_rerun_requests_nothing(tmp_path: Path) -> None:
    data = tmp_path / "coco"
    with FileServer() as server:
        small = serve_coco(server, tmp_path)
        assert not is_complete(small, data)
        download(small, data)
        assert is_complete(small, data)
        before, asked = tree(data), len(server.asked)
        report = download(small, data)
        assert report.already
        assert report.source.samples == IMAGES
        assert len(server.asked) == asked
        assert tree(data) == before


def test_a_missing_shard_is_packed_again(tmp_path: Path) -> None:
    data = tmp_path / "coco"
    with FileServer() as server:
        small = serve_coco(server, tmp_path)
        download(small, data, Options(keep_archives=True))
        assert (data / "sources" / "val2014.zip").is_file()
        before, record = tree(data), read_source(data)
        (data / "valid" / "shards" / "00000.tar").unlink()
        assert not is_complete(small, data)
        report = download(small, data, Options(keep_archives=True))
        assert tree(data) == before
        assert record is not None
        assert report.source.samples == record.samples
        assert report.source.left_out == record.left_out
        first = [file.etag for file in record.files]
        assert [file.etag for file in report.source.files] == first, "known ETags stay known"


def test_a_missing_shard_is_missing_until_it_is_packed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "coco"
    with FileServer() as server:
        small = serve_coco(server, tmp_path)
        download(small, data)
        before = tree(data)
        (data / "valid" / "shards" / "00000.tar").unlink()
        with monkeypatch.context() as patch:
            patch.setattr("fscdata.download.session.MARGIN", 10**18)
            for _ in range(2):
                with pytest.raises(FsckitError, match=r"needs about .* is free"):
                    download(small, data)
        assert not is_complete(small, data)
        assert download(small, data).source.samples == IMAGES
        assert tree(data) == before
        assert is_complete(small, data)


def test_restores_truncated_sources(tmp_path: Path) -> None:
    data = tmp_path / "coco"
    kept = Options(keep_archives=True)
    with FileServer() as server:
        small = serve_coco(server, tmp_path)
        download(small, data, kept)
        before = tree(data)
        for lost in ("sources/val2014.zip", "sources/valid_neg_clip.tsv"):
            (data / lost).write_bytes(before[lost][:-9])
        download(small, data, kept)
        assert tree(data) == before
        (data / "shards" / "00000.tar").unlink()
        (data / "sources" / "train_neg_clip.tsv").write_bytes(b"x")
        download(small, data, kept)
        assert tree(data) == before
        (data / "sources" / "val2014.zip").write_bytes(b"PK")
        download(small, data)
        assert is_complete(small, data), "archives are complete without being kept"
        assert tree(data) == {name: b for name, b in before.items() if not name.endswith(".zip")}


def test_restores_changed_plain_files(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with FileServer() as server:
        files = [
            {"name": name, "addresses": [server.serve(name, content)]}
            for name, content in {"a.json": b'{"a": 1}', "b.json": b'{"b": 2}'}.items()
        ]
        small = manifest(tmp_path, kind="files", files=files)
        download(small, data)
        before = tree(data)
        (data / "a.json").write_bytes(b'{"a"')
        (data / "b.json").write_bytes(b'{"b": 3}')
        download(small, data)
    assert tree(data) == before
    assert is_complete(small, data)


@pytest.mark.parametrize("mine", ["valid/shards/00000.tar", "shards/a.jpg", "valid/shards/b.jpg"])
def test_keeps_the_users_files_where_shards_go(tmp_path: Path, mine: str) -> None:
    data = tmp_path / "coco"
    (data / mine).parent.mkdir(parents=True)
    (data / mine).write_bytes(b"mine")
    with FileServer() as server:
        small = serve_coco(server, tmp_path)
        with pytest.raises(FsckitError, match=r"contains tars or .* choose another folder"):
            download(small, data)
        assert not server.asked
    assert tree(data) == {mine: b"mine"}


def test_keeps_the_users_files_that_were_added_later(tmp_path: Path) -> None:
    data = tmp_path / "coco"
    mine = data / "valid" / "shards" / "a.jpg"
    with FileServer() as server:
        small = serve_coco(server, tmp_path)
        download(small, data)
        mine.write_bytes(b"mine")
        (data / "valid" / "shards" / "00000.tar").unlink()
        with pytest.raises(FsckitError, match=r"a\.jpg: in a .* not made by .* move it elsewhere"):
            download(small, data)
        assert mine.read_bytes() == b"mine"
        mine.unlink()
        assert download(small, data).source.samples == IMAGES


def test_rereads_the_record_once_the_lock_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"

    @contextmanager
    def late(folder: Path) -> Iterator[None]:
        monkeypatch.setattr("fscdata.download.run.folder_lock", folder_lock)
        download(small, data)  # by another process, after this one has inspected the folder
        with folder_lock(folder):
            yield

    with FileServer() as server:
        address = server.serve("a.json", b"[]")
        small = manifest(tmp_path, kind="files", files=[{"name": "a.json", "addresses": [address]}])
        monkeypatch.setattr("fscdata.download.run.folder_lock", late)
        report = download(small, data)
    assert [file.address for file in report.source.files] == [address]


@pytest.mark.slow
def test_five_kills_leave_the_same_data_set(tmp_path: Path) -> None:
    data = tmp_path / "killed"
    with FileServer() as server:
        small = serve_coco(server, tmp_path)
        download(small, tmp_path / "undisturbed")
        for name in ("/train2014.zip", "/val2014.zip"):
            server.files[name].pause = 0.2
        command = [sys.executable, "-m", "fscdata", "download", tmp_path / "small.yaml", data]
        for kill in range(5):
            asked = len(server.asked)
            child = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            deadline = time.monotonic() + 60
            while len(server.asked) <= asked and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.2 + 0.1 * kill)
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
        assert not is_complete(small, data)
        subprocess.run(command, check=True, capture_output=True)
        assert any(asked.range for asked in server.asked), "a file resumed"
    assert is_complete(small, data)
    assert tree(data) == tree(tmp_path / "undisturbed")


def test_refuses_a_wrong_digest(tmp_path: Path) -> None:
    with FileServer() as server:
        address = server.serve("a.json", b'{"a": 1}')
        small = manifest(
            tmp_path,
            kind="files",
            files=[{"name": "a.json", "addresses": [address], "sha256": "0" * 64}],
        )
        with pytest.raises(FsckitError, match=r"a\.json"):
            download(small, tmp_path / "data")
    assert not (tmp_path / "data" / "a.json").exists()
    assert not is_complete(small, tmp_path / "data")


def test_fetches_plain_files_from_a_good_mirror(tmp_path: Path) -> None:
    with FileServer() as server:
        page = server.serve("page.json", Served(HTML))
        good = server.serve("good.json", Served(b"[1, 2]", faults=[Drop(2)]))
        small = manifest(
            tmp_path, kind="files", files=[{"name": "sub/a.json", "addresses": [page, good]}]
        )
        said: list[str] = []
        download(small, tmp_path / "data", reporter=Reporter(say=said.append))
        assert tree(tmp_path / "data") == {"sub/a.json": b"[1, 2]"}
        source = read_source(tmp_path / "data")
        assert source is not None
        assert [file.address for file in source.files] == [good]
        assert any("retrying in" in sentence for sentence in said)


def test_packs_images_that_the_user_requested(tmp_path: Path) -> None:
    data = tmp_path / "data"
    rows = [{"image": f"{i}.jpg", "caption": TEMPLATES[5 * i : 5 * i + 5]} for i in range(3)]
    with FileServer() as server:
        address = server.serve("split.json", json.dumps(rows).encode())
        small = manifest(
            tmp_path,
            kind="local",
            images="images",
            instructions="ask for them at https://example.org/form",
            caption_files=[{"name": "split.json", "addresses": [address]}],
            packs=[{"captions": "split.json"}],
        )
        with pytest.raises(FsckitError, match=r"images: folder not found; ask for them at https"):
            download(small, data)
        assert not server.asked
        (data / "images").mkdir()
        for i in range(3):
            (data / "images" / f"{i}.jpg").write_bytes(jpeg())
        report = download(small, data)
    assert (report.source.samples, report.source.captions) == (3, 15)


def test_packs_the_users_own_captions(tmp_path: Path) -> None:
    data = tmp_path / "data"
    small = manifest(
        tmp_path,
        kind="local",
        images="images",
        instructions="take a camera",
        packs=[{"captions": "mine.csv"}],
    )
    (data / "images").mkdir(parents=True)
    (data / "images" / "a.jpg").write_bytes(jpeg())
    with pytest.raises(FsckitError, match=r"data/mine\.csv: file not found; put it there, or add"):
        download(small, data)
    (data / "mine.csv").write_text("image,caption\na.jpg,A red dog.\n")
    assert download(small, data).source.samples == 1


def test_reports_missing_captions_before_the_first_byte(tmp_path: Path) -> None:
    with FileServer() as server:
        small = serve_coco(server, tmp_path)
        wrong = small.model_copy(update={"caption_files": []})
        with pytest.raises(FsckitError, match=r"train_neg_clip\.tsv: file not found"):
            download(wrong, tmp_path / "coco")
        assert not server.asked


@pytest.mark.parametrize("known_by", ["size", "about", "server"])
def test_reports_a_small_disk_before_the_first_byte(tmp_path: Path, known_by: str) -> None:
    with FileServer() as server:
        said = {"length": 10**18} if known_by == "server" else {"chunked": True}
        file = {"name": "a.bin", "addresses": [server.serve("a.bin", Served(b"abc", **said))]}
        if known_by != "server":
            file[known_by] = 10**18
        small = manifest(tmp_path, kind="files", files=[file])
        with pytest.raises(FsckitError, match=r"needs about 1\.\d EB, but only .* is free"):
            download(small, tmp_path / "data")
        assert not server.asked


def test_asks_servers_for_unpublished_sizes(tmp_path: Path) -> None:
    """The total is known from the start, and packed images need twice the disk space."""
    seen: list[Progress] = []
    with FileServer() as server:
        small = serve_coco(server, tmp_path)
        sizes = {name.strip("/"): len(file.content) for name, file in server.files.items()}
        assert {file.name: (file.size, file.exact) for file in plan(small, Options())} == {
            name: (size, False) for name, size in sizes.items()
        }
        server.files["/val2014.zip"].chunked = True
        assert [file.size for file in plan(small, Options())].count(None) == 1
        server.files["/val2014.zip"].chunked = False
        server.files["/val2014.zip"].faults = [Drop(1 << 15), Answer(404)]
        with pytest.raises(FsckitError, match=r"val2014\.zip: cannot be fetched"):
            download(small, tmp_path / "coco", reporter=Reporter(seen.append))
        fetching = [p for p in seen if p.stage == "fetching"]
        assert {p.total for p in fetching} == {sum(sizes.values())}
        asked = len(server.asked_sizes)
        download(small, tmp_path / "coco")
        assert len(server.asked_sizes) == asked, "sizes of complete and partial files are known"


def test_survives_false_and_missing_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fscdata.download.http.SIZE_TIMEOUT", 0.2)
    with FileServer() as server:
        lie = server.serve("lie.json", Served(b"[1]", head_length=10**18))
        silent = server.serve("silent.json", Served(b"[2]", head_length=0))
        files = [
            {"name": "lie.json", "addresses": [lie]},
            {"name": "b.json", "addresses": [silent]},
        ]
        small = manifest(tmp_path, kind="files", files=files)
        with pytest.raises(FsckitError, match=r"needs about 1\.\d EB.*'about' overrides it"):
            download(small, tmp_path / "data")
        files[0]["about"] = 100
        seen: list[Progress] = []
        small = manifest(tmp_path, kind="files", files=files)
        download(small, tmp_path / "data", reporter=Reporter(seen.append))
    assert tree(tmp_path / "data") == {"b.json": b"[2]", "lie.json": b"[1]"}
    assert {p.stage for p in seen} == {"getting sizes", "fetching"}
    assert seen[-1].total is None


def test_bytes_on_disk_include_only_the_partial_file(tmp_path: Path) -> None:
    for name in ("a.json", "mine-a.json", ".a.json.tmp", ".a.jsonl.tmp"):
        (tmp_path / name).write_bytes(b"x" * 10)
    assert bytes_on_disk(tmp_path / "a.json") == 20


def test_refuses_a_folder_of_something_else(tmp_path: Path) -> None:
    with FileServer() as server:
        one = manifest(
            tmp_path, kind="files", files=[{"name": "a", "addresses": [server.serve("a", b"a")]}]
        )
        two = manifest(
            tmp_path, kind="files", files=[{"name": "b", "addresses": [server.serve("b", b"b")]}]
        )
        download(one, tmp_path / "data")
        with pytest.raises(FsckitError, match=r"contains 'Small' from another manifest"):
            download(two, tmp_path / "data")
        write_tar(tmp_path / "mine" / "shards" / "00000.tar", img2dataset_sample("0", "A cat."))
        before = tree(tmp_path / "mine")
        with pytest.raises(FsckitError, match="contains tars or a shards folder"):
            download(one, tmp_path / "mine")
        assert tree(tmp_path / "mine") == before
        (tmp_path / "data" / "SOURCE.json").write_text("{")
        with pytest.raises(FsckitError, match=r"SOURCE\.json: not a record"):
            download(one, tmp_path / "data")
