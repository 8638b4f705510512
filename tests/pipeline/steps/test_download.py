"""Manifests of every kind, fetched from real servers on loopback."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from captions import TEMPLATES
from file_server import HTML, Drop, FileServer, Served
from fscdata.contract import CaptionSource, FsckitError, index_tar, shard_paths
from fscdata.download.record import read_source
from fscdata.manifest import Manifest, load_manifest
from fscdata.steps.download import Options, Show, download, is_there, plan, retry
from fscdata.steps.negatives import make_negatives
from fscdata.steps.plan import Settings
from fscdata.steps.work import Progress, used
from fscdata.storage import locked
from hub_server import HubRepository, HubServer
from picture_server import PATIENCE, PictureServer
from tars import img2dataset_sample, jpeg, write_tar

TERMS = {
    "title": "Small",
    "captions": "in the table",
    "licence": {"name": "MIT", "link": "https://example.org/mit", "terms": "Keep the notice."},
    "citation": "Nobody, 2024",
    "on_disk": "shards",
}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PICTURES = 12


def manifest(folder: Path, **fields: object) -> Manifest:
    """A manifest as a user would write it."""
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**TERMS, **fields}))
    return load_manifest(str(path))


def coco_zip(split: str, numbers: range) -> bytes:
    """A zip in COCO's layout: a folder of JPEGs."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{split}/", b"")
        archive.writestr("readme.bin", bytes(range(256)) * 1000)
        for i in numbers:
            colour = (i * 19 % 256, 255 - i * 7 % 256, 90)
            archive.writestr(f"{split}/COCO_{split}_{i:012d}.jpg", jpeg(colour))
    return buffer.getvalue()


def neg_clip(rows: list[tuple[str, int]]) -> bytes:
    """A table in NegCLIP's layout: (split, number) a row."""
    lines = ["\ttitle\tfilepath\tneg_caption\tneg_image"]
    for row, (split, i) in enumerate(rows):
        path = f"coco/{split}/COCO_{split}_{i:012d}.jpg"
        negative = f"not {TEMPLATES[i]}".replace("'", "")
        lines.append(f"{row}\t{TEMPLATES[i]}\t{path}\t['{negative}']\t[0]")
    return ("\n".join(lines) + "\n").encode()


def serve_coco(server: FileServer, folder: Path) -> Manifest:
    """A small COCO behind the server, and its manifest."""
    half = PICTURES // 2
    rows = [("train2014", i) for i in range(half)] + [("val2014", i) for i in range(half, PICTURES)]
    contents = {
        "train2014.zip": coco_zip("train2014", range(half)),
        "val2014.zip": coco_zip("val2014", range(half, PICTURES + 1)),
        "train_neg_clip.tsv": neg_clip([*rows[:-2], ("train2014", 99)]),
        "valid_neg_clip.tsv": neg_clip(rows[-2:]),
    }
    files = [
        {"name": name, "addresses": [server.serve(name, content)]}
        for name, content in contents.items()
    ]
    return manifest(
        folder,
        kind="archive",
        archives=files[:2],
        caption_files=files[2:],
        packs=[{"captions": "train_neg_clip.tsv"},
               {"captions": "valid_neg_clip.tsv", "folder": "valid"}],
    )  # fmt: skip


def tree(folder: Path) -> dict[str, bytes]:
    """What a data set consists of, but for its record, which has a date."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("SOURCE.json", ".fscdata.lock")
    }


def test_a_coco_zip_becomes_shards_that_make_negatives_takes(tmp_path: Path) -> None:
    data = tmp_path / "coco"
    with FileServer() as server:
        small = serve_coco(server, tmp_path)
        report = download(small, data)
    assert (report.shards, report.source.samples, report.source.captions) == (2, PICTURES, PICTURES)
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
    picture = tar.read_bytes()[last.image_offset : last.image_offset + last.image_size]
    assert picture == zipped.read("val2014/COCO_val2014_000000000009.jpg")

    made = make_negatives(data, Settings("fsc-clip,imported"))
    assert not made.failed
    assert made.negatives["imported"] == 10
    assert made.negatives["negclip"] >= 8


def test_fsctrain_runs_on_it(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from fsctrain.config import load_config
    from fsctrain.train import train

    data = tmp_path / "coco"
    with FileServer() as server:
        download(serve_coco(server, tmp_path), data)
    for folder in (data, data / "valid"):
        make_negatives(folder, Settings("imported"))
    tiny = Path(__file__).parents[2] / "trainer" / "tiny.json"
    settings = {
        "data": data, "out": tmp_path / "runs", "model": str(tiny), "pretrained": "none",
        "batch_size": 5, "steps": 2, "device": "cpu", "workers": 0, "styles": ["imported"],
        "validation": data / "valid",
    }  # fmt: skip
    run = train(load_config("negclip", settings))
    assert run.steps == 2
    assert run.checkpoint.is_file()


def test_the_record_says_where_it_is_from_and_under_which_terms(tmp_path: Path) -> None:
    with FileServer() as server:
        small = serve_coco(server, tmp_path)
        download(small, tmp_path / "coco")
        record = json.loads((tmp_path / "coco" / "SOURCE.json").read_text())
        assert record["complete"] is True
        assert record["licence"] == TERMS["licence"]
        assert record["citation"] == TERMS["citation"]
        assert [file["name"] for file in record["files"]] == [f.name for f in small.plan()]
        for file in record["files"]:
            served = server.files[f"/{file['name']}"]
            assert file["address"] == f"{server.url}/{file['name']}"
            assert (file["size"], file["etag"]) == (len(served.content), served.tag)
            assert len(file["sha256"]) == 64


def test_again_is_a_no_op_and_asks_nobody(tmp_path: Path) -> None:
    data = tmp_path / "coco"
    with FileServer() as server:
        small = serve_coco(server, tmp_path)
        assert not is_there(small, data)
        download(small, data)
        assert is_there(small, data)
        before, asked = tree(data), len(server.asked)
        report = download(small, data)
        assert report.already
        assert report.source.samples == PICTURES
        assert len(server.asked) == asked
        assert tree(data) == before


def test_a_lost_shard_is_made_again(tmp_path: Path) -> None:
    data = tmp_path / "coco"
    with FileServer() as server:
        small = serve_coco(server, tmp_path)
        download(small, data, Options(keep_archives=True))
        assert (data / "sources" / "val2014.zip").is_file()
        before, record = tree(data), read_source(data)
        (data / "valid" / "shards" / "00000.tar").unlink()
        assert not is_there(small, data)
        report = download(small, data, Options(keep_archives=True))
        assert tree(data) == before
        assert record is not None
        assert report.source.samples == record.samples
        assert report.source.left_out == record.left_out
        first = [file.etag for file in record.files]
        assert [file.etag for file in report.source.files] == first, "what is known stays known"


def test_a_lost_shard_stays_lost_until_it_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "coco"
    with FileServer() as server:
        small = serve_coco(server, tmp_path)
        download(small, data)
        before = tree(data)
        (data / "valid" / "shards" / "00000.tar").unlink()
        with monkeypatch.context() as patch:
            patch.setattr("fscdata.steps.work.MARGIN", 10**18)
            for _ in range(2):
                with pytest.raises(FsckitError, match="are needed and"):
                    download(small, data)
        assert not is_there(small, data)
        assert download(small, data).source.samples == PICTURES
        assert tree(data) == before
        assert is_there(small, data)


def test_sources_that_were_cut_come_again(tmp_path: Path) -> None:
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
        assert is_there(small, data), "archives that are not to be kept are not missed"
        assert tree(data) == {name: b for name, b in before.items() if not name.endswith(".zip")}


def test_a_plain_file_that_was_changed_comes_again(tmp_path: Path) -> None:
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
    assert is_there(small, data)


@pytest.mark.parametrize("mine", ["valid/shards/00000.tar", "shards/a.jpg", "valid/shards/b.jpg"])
def test_files_of_the_users_own_where_shards_go_stay(tmp_path: Path, mine: str) -> None:
    data = tmp_path / "coco"
    (data / mine).parent.mkdir(parents=True)
    (data / mine).write_bytes(b"mine")
    with FileServer() as server:
        small = serve_coco(server, tmp_path)
        with pytest.raises(FsckitError, match=r"there are shards in it, .* take another folder"):
            download(small, data)
        assert not server.asked
    assert tree(data) == {mine: b"mine"}


def test_files_of_the_users_own_that_come_later_stay(tmp_path: Path) -> None:
    data = tmp_path / "coco"
    mine = data / "valid" / "shards" / "a.jpg"
    with FileServer() as server:
        small = serve_coco(server, tmp_path)
        download(small, data)
        mine.write_bytes(b"mine")
        (data / "valid" / "shards" / "00000.tar").unlink()
        with pytest.raises(FsckitError, match=r"a\.jpg: was not made by .* move it elsewhere"):
            download(small, data)
        assert mine.read_bytes() == b"mine"
        mine.unlink()
        assert download(small, data).source.samples == PICTURES


def test_a_record_that_another_run_wrote_just_now_is_heeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"

    @contextmanager
    def late(folder: Path) -> Iterator[None]:
        monkeypatch.setattr("fscdata.steps.download.locked", locked)
        download(small, data)  # by another, after this one has looked
        with locked(folder):
            yield

    with FileServer() as server:
        address = server.serve("a.json", b"[]")
        small = manifest(tmp_path, kind="files", files=[{"name": "a.json", "addresses": [address]}])
        monkeypatch.setattr("fscdata.steps.download.locked", late)
        report = download(small, data)
    assert [file.address for file in report.source.files] == [address]


def test_killed_five_times_equals_undisturbed(tmp_path: Path) -> None:
    data = tmp_path / "killed"
    with FileServer() as server:
        small = serve_coco(server, tmp_path)
        download(small, tmp_path / "undisturbed")
        for name in ("/train2014.zip", "/val2014.zip"):
            server.files[name].pause = 0.05
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
        assert not is_there(small, data)
        subprocess.run(command, check=True, capture_output=True)
        assert any(asked.range for asked in server.asked), "gone on with in the middle"
    assert is_there(small, data)
    assert tree(data) == tree(tmp_path / "undisturbed")


def test_a_wrong_digest_is_refused_and_nothing_has_its_name(tmp_path: Path) -> None:
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
    assert not is_there(small, tmp_path / "data")


def test_plain_files_from_the_mirror_that_has_them(tmp_path: Path) -> None:
    with FileServer() as server:
        page = server.serve("page.json", Served(HTML))
        good = server.serve("good.json", Served(b"[1, 2]", faults=[Drop(2)]))
        small = manifest(
            tmp_path, kind="files", files=[{"name": "sub/a.json", "addresses": [page, good]}]
        )
        said: list[str] = []
        download(small, tmp_path / "data", show=Show(say=said.append))
        assert tree(tmp_path / "data") == {"sub/a.json": b"[1, 2]"}
        source = read_source(tmp_path / "data")
        assert source is not None
        assert [file.address for file in source.files] == [good]
        assert any("goes on in" in sentence for sentence in said)


def hub_files(samples: int = 3) -> dict[str, bytes]:
    """A repository as CC3M-100K's: two tars, what img2dataset has beside them, an archive."""
    files = {".gitattributes": b"*.tar lfs\n"}
    captions = io.BytesIO()
    with tarfile.open(fileobj=captions, mode="w:gz") as archive:
        for shard in range(2):
            members = []
            for i in range(samples):
                key = f"{shard:05d}{i:04d}"
                members += img2dataset_sample(key, f"web text {i}")
                text = TEMPLATES[shard * samples + i].encode()
                info = tarfile.TarInfo(f"coca_captions/{key}.txt")
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text))
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as tar:
                for name, content in members:
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
            files[f"{shard:05d}.tar"] = buffer.getvalue()
            files[f"{shard:05d}_stats.json"] = json.dumps({"successes": samples}).encode()
    return files | {"coca_captions.tar.gz": captions.getvalue()}


HUB = {
    "kind": "huggingface",
    "repository": "someone/subset",
    "shards": ["{00000..00001}.tar", "*.parquet", "*_stats.json"],
    "caption_archive": {"file": "coca_captions.tar.gz", "folder": "coca_captions"},
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> HubRepository:
    for name in ("HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    return HubRepository({COMMIT: hub_files()}, {"main": COMMIT})


def test_a_repository_of_tars_with_captions_of_its_own(
    tmp_path: Path, hub: HubRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, data = manifest(tmp_path, **HUB), tmp_path / "data"
    with HubServer({"someone/subset": hub}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        sizes = {file.name: file.size for file in plan(small)}
        seen: list[Progress] = []
        report = download(small, data, show=Show(lambda p: seen.append(replace(p))))
        asked = len(server.asked("/", "GET"))
        assert download(small, data).already
        assert len(server.asked("/", "GET")) == asked
    files = hub_files()
    del files[".gitattributes"]
    assert sizes == {name: len(content) for name, content in files.items()}
    assert sorted(name for name in tree(data) if "captions" not in name) == [
        "shards/00000.tar", "shards/00000_stats.json", "shards/00001.tar",
        "shards/00001_stats.json",
    ]  # fmt: skip
    assert report.source.commit == COMMIT
    assert (report.source.samples, report.source.captions) == (6, 6)
    fetching = [p for p in seen if p.stage == "fetching"]
    assert fetching[-1].done == fetching[-1].total == sum(sizes.values())

    source = CaptionSource(folder=data / "coca_captions")
    made = make_negatives(data, Settings("negclip", captions=source))
    assert (made.captions, made.failed) == (6, {})


def test_an_incomplete_repository_is_noticed_and_gone_on_with(
    tmp_path: Path, hub: HubRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, data = manifest(tmp_path, **HUB), tmp_path / "data"
    hub.lost.add("00001.tar")
    with HubServer({"someone/subset": hub}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        with pytest.raises(FsckitError, match=r"00001\.tar"):
            download(small, data)
        assert not (data / "shards").exists()
        hub.lost.clear()
        hub.commits["f" * 40] = {"00000.tar": b""}
        hub.revisions["main"] = "f" * 40
        assert download(small, data).source.commit == COMMIT, "begun with it, finished with it"
        (data / "shards" / "00000.tar").write_bytes(b"cut")
        report = download(small, data)
    assert not report.already
    assert report.source.samples == 6
    assert index_tar(data / "shards" / "00000.tar").samples[0].key == "000000000"


def test_a_number_that_a_repository_lacks_is_an_error(
    tmp_path: Path, hub: HubRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = manifest(tmp_path, **HUB | {"shards": ["{00000..00002}.tar"]})
    with HubServer({"someone/subset": hub}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        with pytest.raises(FsckitError, match=r"has no '00002\.tar'"):
            download(small, tmp_path / "data")


def test_a_repository_is_mended_in_its_place(
    tmp_path: Path, hub: HubRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, data = manifest(tmp_path, **HUB), tmp_path / "data"
    with HubServer({"someone/subset": hub}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        download(small, data)
        before = tree(data)
        (data / "shards" / "00000.tar").unlink()
        rest = tree(data)
        with monkeypatch.context() as patch:
            patch.setattr("fscdata.steps.work.MARGIN", 10**18)
            with pytest.raises(FsckitError, match="are needed and"):
                download(small, data)
        assert tree(data) == rest, "nothing is moved before it is known that there is space"
        hub.lost.add("00000.tar")
        with pytest.raises(FsckitError, match=r"00000\.tar"):
            download(small, data)
        assert rest.items() <= tree(data).items()
        assert not is_there(small, data)
        hub.lost.clear()
        sent = server.sent
        download(small, data)
        assert server.sent - sent == len(before["shards/00000.tar"]), "the others stay"
    assert tree(data) == before
    assert is_there(small, data)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"shards": ["*.tgz"]}, r"has no file of '\*\.tgz' at commit .* manifest's shards"),
        ({"shards": ["{a,b}-*.tar"]}, r"has no file of '\{a,b\}-\*\.tar'"),
        ({"files": ["*.jsonl"]}, r"has no file of '\*\.jsonl' at commit .* manifest's files"),
        ({"shards": ["data/*.tar"]}, r"'data/00000\.tar' lies in a folder"),
        ({"shards": ["*_stats.json"]}, r"shards: there is not one sample"),
    ],
)
def test_a_repository_that_gives_no_shard_or_no_sample_is_an_error(
    tmp_path: Path,
    hub: HubRepository,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, object],
    sentence: str,
) -> None:
    small = manifest(tmp_path, kind="huggingface", repository="someone/subset", **fields)
    hub.commits[COMMIT]["data/00000.tar"] = hub.commits[COMMIT]["00000.tar"]
    with HubServer({"someone/subset": hub}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        for _ in range(2):
            with pytest.raises(FsckitError, match=sentence):
                download(small, tmp_path / "data")
    assert not is_there(small, tmp_path / "data")


def test_braces_and_a_star_in_one_pattern(
    tmp_path: Path, hub: HubRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["data/train-0.parquet", "data/validation-0.parquet"]
    hub.commits[COMMIT] |= dict.fromkeys(names, b"PAR1")
    wanted = ["data/{train,validation,test}-*.parquet"]  # a star may stand for none
    small = manifest(tmp_path, kind="huggingface", repository="someone/subset", files=wanted)
    with HubServer({"someone/subset": hub}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        assert [file.name for file in plan(small)] == names
        download(small, tmp_path / "data")
    assert list(tree(tmp_path / "data")) == names


def test_a_url_table_and_its_retry(tmp_path: Path) -> None:
    pytest.importorskip("img2dataset")
    data = tmp_path / "data"
    with FileServer() as files, PictureServer() as pictures:
        kinds = ["ok"] * 8 + ["gone"] * 2 + ["sick"] * 2
        table = "".join(
            f"{TEMPLATES[i]}\t{pictures.url}/{kind}/{i}\n" for i, kind in enumerate(kinds)
        )
        small = manifest(
            tmp_path,
            kind="urls",
            table={"name": "t.tsv", "addresses": [files.serve("t.tsv", table.encode())]},
            columns=["caption", "url"],
            url_column="url",
            caption_column="caption",
            options={"timeout": PATIENCE, "number_sample_per_shard": 6},
        )
        said: list[str] = []
        options = Options(img2dataset={"processes_count": 1})
        report = download(small, data, options, Show(say=said.append))
        assert "probe of 12 rows: success: 8" in said[0]
        assert report.source.samples + sum(report.source.left_out.values()) == 12
        assert report.source.samples == 8
        assert download(small, data, options).already
        assert download(small, data, Options(img2dataset={"timeout": 9})).already
        for number, before in ((3, "other options"), (0, "not a positive number")):
            with pytest.raises(FsckitError, match=before):
                download(small, data, Options(img2dataset={"number_sample_per_shard": number}))
        came, failures = retry(data, 2)
        assert (came, failures) == (2, {})
        lost = {path: path.read_bytes() for path in (data / "shards").glob("00000*")}
        assert len(lost) == 3
        for path in lost:
            path.unlink()
        for again in (lambda: download(small, data, options), lambda: retry(data)) * 2:
            with pytest.raises(FsckitError, match=r"is lost or has changed \(3 files have\)"):
                again()
        for path, content in lost.items():
            path.write_bytes(content)
        assert download(small, data, options).already
        (data / "sources" / "t.tsv").write_bytes(b"cut")
        assert not download(small, data, options).already
        assert (data / "sources" / "t.tsv").read_bytes() == table.encode()
    source = read_source(data)
    assert source is not None
    assert source.samples == 10
    assert sum(source.left_out.values()) == 2
    assert is_there(small, data)
    made = make_negatives(data, Settings("negclip"))
    assert (made.captions, made.failed) == (10, {})


def test_too_few_rows_of_a_probe_stop_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("img2dataset")
    from fscdata.download.probe import Probe

    found = Probe(1000, 200, 98, {"HTTP 404": 100, "time-out": 2}, {}, 10_000)
    folders = []

    def probe(table: Path, folder: Path, options: object) -> Probe:
        assert folder.is_dir()
        folders.append(folder)
        return found

    monkeypatch.setattr("fscdata.download.probe.probe", probe)
    with FileServer() as server:
        table = {"name": "t.tsv", "addresses": [server.serve("t.tsv", b"a cat\thttp://x/\n")]}
        columns = {"columns": ["text", "url"], "url_column": "url", "caption_column": "text"}
        small = manifest(tmp_path, kind="urls", table=table, **columns)
        with pytest.raises(FsckitError, match=r"'image_sise': img2dataset .* has no such option"):
            download(small, tmp_path / "data", Options(img2dataset={"image_sise": 3}))
        assert not server.asked, "before the first byte"
        with pytest.raises(
            FsckitError, match=r"t\.tsv: 49% of the 200 rows.*HTTP 404: 100.*--min-success"
        ):
            download(small, tmp_path / "data")
    assert folders == [tmp_path / "data" / ".downloading"], "where other machines see it"
    assert list(tree(tmp_path / "data")) == ["sources/.t.tsv.lock", "sources/t.tsv"]


def test_pictures_that_a_person_has_to_ask_for(tmp_path: Path) -> None:
    data = tmp_path / "data"
    rows = [{"image": f"{i}.jpg", "caption": TEMPLATES[5 * i : 5 * i + 5]} for i in range(3)]
    with FileServer() as server:
        address = server.serve("split.json", json.dumps(rows).encode())
        small = manifest(
            tmp_path,
            kind="local",
            pictures="pictures",
            instructions="ask for them at https://example.org/form",
            caption_files=[{"name": "split.json", "addresses": [address]}],
            packs=[{"captions": "split.json"}],
        )
        with pytest.raises(FsckitError, match=r"pictures: is not there; ask for them at https"):
            download(small, data)
        assert not server.asked
        (data / "pictures").mkdir()
        for i in range(3):
            (data / "pictures" / f"{i}.jpg").write_bytes(jpeg())
        report = download(small, data)
    assert (report.source.samples, report.source.captions) == (3, 15)


def test_captions_of_the_users_own(tmp_path: Path) -> None:
    data = tmp_path / "data"
    small = manifest(
        tmp_path,
        kind="local",
        pictures="pictures",
        instructions="take a camera",
        packs=[{"captions": "mine.csv"}],
    )
    (data / "pictures").mkdir(parents=True)
    (data / "pictures" / "a.jpg").write_bytes(jpeg())
    with pytest.raises(FsckitError, match=r"data/mine\.csv: is not there; put it there, or give"):
        download(small, data)
    (data / "mine.csv").write_text("image,caption\na.jpg,A red dog.\n")
    assert download(small, data).source.samples == 1


def test_captions_that_nobody_gives_are_told_before_the_first_byte(tmp_path: Path) -> None:
    with FileServer() as server:
        small = serve_coco(server, tmp_path)
        wrong = small.model_copy(update={"caption_files": []})
        with pytest.raises(FsckitError, match=r"train_neg_clip\.tsv: is not there"):
            download(wrong, tmp_path / "coco")
        assert not server.asked


def test_a_disk_that_is_too_small_is_told_before_the_first_byte(tmp_path: Path) -> None:
    with FileServer() as server:
        address = server.serve("a.bin", b"abc")
        small = manifest(
            tmp_path,
            kind="files",
            files=[{"name": "a.bin", "addresses": [address], "about": 10**18}],
        )
        with pytest.raises(FsckitError, match=r"about 1\.\d EB are needed and .* are free"):
            download(small, tmp_path / "data")
        assert not server.asked


def test_a_part_of_a_file_is_counted_off_and_nothing_of_others(tmp_path: Path) -> None:
    for name in ("a.json", "mine-a.json", ".a.json.tmp", ".a.jsonl.tmp"):
        (tmp_path / name).write_bytes(b"x" * 10)
    assert used(tmp_path / "a.json") == 20


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    with FileServer() as server:
        one = manifest(
            tmp_path, kind="files", files=[{"name": "a", "addresses": [server.serve("a", b"a")]}]
        )
        two = manifest(
            tmp_path, kind="files", files=[{"name": "b", "addresses": [server.serve("b", b"b")]}]
        )
        download(one, tmp_path / "data")
        with pytest.raises(FsckitError, match=r"holds 'Small' by another manifest"):
            download(two, tmp_path / "data")
        write_tar(tmp_path / "mine" / "shards" / "00000.tar", img2dataset_sample("0", "A cat."))
        before = tree(tmp_path / "mine")
        with pytest.raises(FsckitError, match="there are shards in it"):
            download(one, tmp_path / "mine")
        assert tree(tmp_path / "mine") == before
        (tmp_path / "data" / "SOURCE.json").write_text("{")
        with pytest.raises(FsckitError, match=r"SOURCE\.json: not a record"):
            download(one, tmp_path / "data")
