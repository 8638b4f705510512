"""Downloads repositories from a hub on loopback."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fscdata.base.progress import Progress, Reporter
from fscdata.cli.download_report import print_plan
from fscdata.contract import CaptionSource, index_tar
from fscdata.download.run import Options, download, is_complete, plan
from fscdata.steps.expected import Settings
from fscdata.steps.negatives import make_negatives
from support.captions import TEMPLATES
from support.hub_server import HubRepository, HubServer
from support.manifests import manifest, tree
from support.tars import img2dataset_sample

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def hub_files(samples: int = 3) -> dict[str, bytes]:
    """A repository like CC3M-100K's: two tars, img2dataset's files, an archive of captions."""
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


@pytest.mark.slow
def test_downloads_tars_and_an_archive_of_captions(
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
            seen.append(progress)
            recorded.append(len(json.loads((data / "SOURCE.json").read_bytes())["files"]))

        server.unavailable, server.drops = 1, 1
        report = download(small, data, reporter=Reporter(look, said.append))
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
    finished = [int(p.detail.removesuffix(" of 5 files")) for p in fetching]
    assert sorted(set(finished)) == [0, 1, 2, 3, 4, 5]
    assert all(files >= done for done, files in zip(finished, recorded, strict=False))
    busy, wait, broken = said
    assert busy.startswith("HTTP Error 503 thrown while requesting GET http://127.0.0.1")
    assert wait.startswith("Retrying in 1s")
    assert "disconnected (" in broken
    assert broken.endswith("retrying in 1 s")
    assert capfd.readouterr() == ("", "")

    source = CaptionSource(folder=data / "coca_captions")
    made = make_negatives(data, Settings("negclip", captions=source))
    assert (made.captions, made.failed) == (6, {})


def test_resumes_an_incomplete_repository_at_its_commit(
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
        assert download(small, data).source.commit == COMMIT, "it stays at its first commit"
        (data / "shards" / "00000.tar").write_bytes(b"cut")
        report = download(small, data)
    assert not report.already
    assert report.source.samples == 6
    assert index_tar(data / "shards" / "00000.tar").samples[0].key == "000000000"


def test_reports_a_missing_number(
    tmp_path: Path, hub: HubRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = manifest(tmp_path, **HUB | {"shards": ["{00000..00002}.tar"]})
    with HubServer({"someone/subset": hub}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        with pytest.raises(FsckitError, match=r"has no '00002\.tar'"):
            download(small, tmp_path / "data")


def test_restores_a_missing_shard_in_place(
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
            patch.setattr("fscdata.download.session.MARGIN", 10**18)
            with pytest.raises(FsckitError, match=r"needs about .* is free"):
                download(small, data)
        assert tree(data) == rest, "nothing moves before the disk is checked"
        hub.lost.add("00000.tar")
        with pytest.raises(FsckitError, match=r"00000\.tar"):
            download(small, data)
        assert rest.items() <= tree(data).items()
        assert not is_complete(small, data)
        hub.lost.clear()
        sent = server.sent
        download(small, data)
        assert server.sent - sent == len(before["shards/00000.tar"]), "the others are kept"
    assert tree(data) == before
    assert is_complete(small, data)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"shards": ["*.tgz"]}, r"no file matches '\*\.tgz' at commit .* manifest's shards"),
        ({"shards": ["{a,b}-*.tar"]}, r"no file matches '\{a,b\}-\*\.tar'"),
        ({"files": ["*.jsonl"]}, r"no file matches '\*\.jsonl' at commit .* manifest's files"),
        ({"shards": ["data/*.tar"]}, r"'data/00000\.tar' is in a subfolder"),
        ({"shards": ["*_stats.json"]}, r"shards: contains no sample"),
    ],
)
def test_reports_a_repository_without_shards_or_samples(
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
    assert not is_complete(small, tmp_path / "data")


def test_a_pattern_combines_braces_and_a_star(
    tmp_path: Path, hub: HubRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["data/train-0.parquet", "data/validation-0.parquet"]
    hub.commits[COMMIT] |= dict.fromkeys(names, b"PAR1")
    wanted = ["data/{train,validation,test}-*.parquet"]  # a star may match no file
    small = manifest(tmp_path, kind="huggingface", repository="someone/subset", files=wanted)
    with HubServer({"someone/subset": hub}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        assert [file.name for file in plan(small, Options())] == names
        download(small, tmp_path / "data")
    assert list(tree(tmp_path / "data")) == names


def test_a_plan_without_a_network_says_what_the_manifest_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://name.invalid")
    monkeypatch.setattr("fscdata.download.hub._FIRST_WAITS", (0,))
    small = manifest(tmp_path, **HUB, about=2_400_000_000)
    said: list[str] = []
    files = plan(small, Options(), Reporter(say=said.append))
    assert "name.invalid cannot be reached" in said[-1]
    print_plan(small, files, tmp_path / "data", as_json=False)
    out = capsys.readouterr().out
    assert "http://name.invalid" in out and "someone/subset" in out.replace("│", "")
    assert "files not listed, about 2.4 GB, to " in out


def test_a_refusal_is_an_error_in_a_plan_too(
    tmp_path: Path, hub: HubRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HubServer({"another/name": hub}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        with pytest.raises(FsckitError, match="has no such data set repository"):
            plan(manifest(tmp_path, **HUB), Options())
