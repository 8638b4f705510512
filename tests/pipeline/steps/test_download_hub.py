"""Repositories of a hub on loopback → data sets."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fscdata.contract import CaptionSource, index_tar
from fscdata.steps.download import Options, Show, download, is_there
from fscdata.steps.download_plan import plan
from fscdata.steps.negatives import make_negatives
from fscdata.steps.plan import Settings
from fscdata.steps.work import Progress
from support.captions import TEMPLATES
from support.hub_server import HubRepository, HubServer
from support.manifests import manifest, tree
from support.tars import img2dataset_sample

COMMIT = "0123456789abcdef0123456789abcdef01234567"


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
    tmp_path: Path,
    hub: HubRepository,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    small, data = manifest(tmp_path, **HUB), tmp_path / "data"
    with HubServer({"someone/subset": hub}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        sizes = {file.name: file.size for file in plan(small, Options())}
        seen: list[Progress] = []
        recorded: list[int] = []
        said: list[str] = []

        def look(progress: Progress) -> None:
            seen.append(replace(progress))
            recorded.append(len(json.loads((data / "SOURCE.json").read_bytes())["files"]))

        server.unavailable, server.drops = 1, 1
        report = download(small, data, show=Show(look, said.append))
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
    assert sorted({p.files for p in fetching}) == [0, 1, 2, 3, 4, 5]
    assert all(files >= p.files for p, files in zip(fetching, recorded, strict=False))
    busy, wait, broken = said
    assert busy.startswith("HTTP Error 503 thrown while requesting GET http://127.0.0.1")
    assert wait.startswith("Retrying in 1s")
    assert "breaks off" in broken
    assert broken.endswith("goes on in 1 s")
    assert capfd.readouterr() == ("", "")

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
        assert [file.name for file in plan(small, Options())] == names
        download(small, tmp_path / "data")
    assert list(tree(tmp_path / "data")) == names
