"""URL tables through the real img2dataset, from a server on loopback with the web's faults."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fscdata.contract import shard_paths
from fscdata.download.urls import UrlOptions, download_table
from fscdata.download.urls.img2dataset_process import PYTHON_VARIABLE
from fscdata.download.urls.probe import probe
from fscdata.download.urls.retry import retry
from fscdata.steps.negatives import make_negatives
from fscdata.steps.plan import Settings
from support.image_server import KINDS, PATIENCE, PictureServer, write_cc3m_table
from support.installed import skip_without

skip_without("img2dataset", "download")

OPTIONS = UrlOptions(
    columns=("caption", "url"),
    number_sample_per_shard=60,
    processes_count=1,
    thread_count=16,
    timeout=PATIENCE,
)
FAILURES = {
    "HTTP 404": KINDS["gone"],
    "HTTP 403": KINDS["forbidden"],
    "HTTP 429": KINDS["busy"],
    "HTTP 5xx": KINDS["broken"] + KINDS["unwell"] + KINDS["sick"],
    "not an image": KINDS["html"],
    "opt-out": KINDS["noai"],
    "time-out": KINDS["stuck"] + KINDS["slow"],
    "connection dropped": KINDS["dropped"],
}


@pytest.fixture(scope="module", autouse=True)
def no_proxy() -> Iterator[None]:
    """Loopback is asked directly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "127.0.0.1")
        yield


@pytest.fixture(scope="module")
def server() -> Iterator[PictureServer]:
    with PictureServer() as server:
        yield server


@pytest.fixture(scope="module")
def data(server: PictureServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table's pictures after one undisturbed download; its table lies beside."""
    folder = tmp_path_factory.mktemp("urls")
    write_cc3m_table(folder / "cc3m.tsv", server.url)
    seen: list[tuple[int, int]] = []
    report = download_table(
        [folder / "cc3m.tsv"],
        folder / "data",
        OPTIONS,
        lambda done, rows: seen.append((done, rows)),
    )
    assert report.successes == KINDS["ok"]
    assert report.failures == FAILURES
    assert (report.shards, report.skipped) == (5, {})
    assert seen[-1] == (300, 300)
    return folder / "data"


@pytest.fixture
def copy(data: Path, tmp_path: Path) -> Path:
    shutil.copytree(data, tmp_path / "data")
    return tmp_path / "data"


def samples(data: Path) -> dict[str, tuple[str, bytes]]:
    """key → (caption, picture), each key once."""
    found: dict[str, tuple[str, bytes]] = {}
    for tar in shard_paths(data):
        with tarfile.open(tar) as members:
            content = {m.name: members.extractfile(m).read() for m in members}
        for name in content:
            key, _, ending = name.partition(".")
            if ending == "json":
                assert key not in found
                caption = json.loads(content[name])["caption"]
                assert content[f"{key}.txt"].decode() == caption
                found[key] = (caption, content[f"{key}.jpg"])
    return found


def test_every_sample_is_its_rows_picture(data: Path) -> None:
    found = samples(data)
    assert len(found) == KINDS["ok"]
    assert all(caption.startswith('a "ok" picture ') for caption, _ in found.values())
    # The key is the row's number: so many rows a shard, two digits for the rows of one.
    assert {int(k[:-2]) * 60 + int(k[-2:]) for k in found} == {
        int(caption.split()[-1]) for caption, _ in found.values()
    }
    assert sorted(path.name for path in (data / "shards").iterdir()) == sorted(
        f"{i:05d}{ending}" for i in range(5) for ending in (".tar", ".parquet", "_stats.json")
    )
    assert not (data / "urls" / "working").exists()


def test_a_second_time_asks_for_nothing(data: Path, server: PictureServer) -> None:
    before = server.requests.total()
    report = download_table([data.with_name("cc3m.tsv")], data, replace(OPTIONS, timeout=9))
    assert (report.successes, report.failures) == (KINDS["ok"], FAILURES)
    assert server.requests.total() == before


def test_other_options_are_refused(data: Path) -> None:
    with pytest.raises(FsckitError, match=r"begun with another table or other options"):
        download_table([data.with_name("cc3m.tsv")], data, replace(OPTIONS, image_size=64))


def test_retry_brings_back_what_could_be(copy: Path, server: PictureServer) -> None:
    first = retry(copy, times=2)
    healed = sum(KINDS[kind] for kind in ("unwell", "busy", "slow", "dropped", "sick"))
    assert first.successes == healed
    assert first.failures == {"HTTP 5xx": KINDS["broken"], "time-out": KINDS["stuck"]}
    assert first.shards == 2

    found = samples(copy)
    assert len(found) == KINDS["ok"] + healed
    assert len({caption for caption, _ in found.values()}) == len(found)
    asked = {kind: set() for kind in KINDS}
    for path, times in server.requests.items():
        asked[path.split("/")[1]].add(times)
    once, twice, thrice = {1}, {2}, {3}
    assert asked["ok"] == asked["gone"] == asked["html"] == asked["noai"] == once
    assert asked["unwell"] == asked["slow"] == asked["dropped"] == asked["busy"] == twice
    assert asked["sick"] == asked["broken"] == asked["stuck"] == thrice

    asked_before = server.requests.copy()
    # What is left is dead: one round, and no shard without a picture.
    again = retry(copy, times=3)
    assert (again.successes, again.shards) == (0, 0)
    assert again.failures == first.failures
    assert server.requests.total() == sum(asked_before.values()) + sum(first.failures.values())

    # A retry that was killed while it moved its last shard.
    working = copy / "urls" / "working"
    working.mkdir()
    for name in ("00006_stats.json", "00006.parquet"):
        (copy / "shards" / name).rename(working / name)
    assert retry(copy, times=0).shards == 0
    assert samples(copy) == found
    assert not working.exists()

    report = make_negatives(copy, Settings("shuffle-1"))
    assert (report.shards, report.captions, report.failed) == (7, len(found), {})


def test_a_kill_in_the_middle_changes_nothing(data: Path, tmp_path: Path) -> None:
    with PictureServer(heals=False, delay=0.02) as server:
        table = tmp_path / "cc3m.tsv"
        write_cc3m_table(table, server.url)
        options = replace(OPTIONS, thread_count=8)
        script = (
            "import sys, json; from pathlib import Path\n"
            "from fscdata.download.urls import UrlOptions, download_table\n"
            "table, folder, options = sys.argv[1:]\n"
            "download_table([Path(table)], Path(folder), UrlOptions(**json.loads(options)))"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", script, table, tmp_path / "data", json.dumps(asdict(options))],
            start_new_session=True,
        )
        working = tmp_path / "data" / "urls" / "working"
        until(lambda: any(working.glob("*_stats.json")) or process.poll() is not None)
        tool = children(process.pid)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert len(tool) == 1
        until(lambda: not Path(f"/proc/{tool[0]}").exists())
        assert not (tmp_path / "data" / "shards").exists()
        whole = {p: p.stat().st_mtime_ns for p in working.glob("00000.*")}
        assert whole
        # The kill may come while stats are written; img2dataset would take this for done.
        (working / "00003.tar").write_bytes(b"half")
        (working / "00003_stats.json").write_text('{"count": 6')

        report = download_table([table], tmp_path / "data", options)
    assert (report.successes, report.failures) == (KINDS["ok"], FAILURES)
    assert samples(tmp_path / "data") == samples(data)
    for path, written in whole.items():
        assert (tmp_path / "data" / "shards" / path.name).stat().st_mtime_ns == written


def until(happens: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    )
    pairs = (line.split() for line in listing.stdout.splitlines())
    return [int(own) for own, parent in pairs if int(parent) == pid]


def test_probe_foretells_the_yield(data: Path, tmp_path: Path, server: PictureServer) -> None:
    found = probe([data.with_name("cc3m.tsv")], tmp_path, OPTIONS, rows=100, seed=7)
    assert (found.table_rows, found.rows) == (300, 100)
    assert sum(found.histogram.values()) == 100
    assert found.histogram["success"] == found.successes > 50
    assert next(iter(found.histogram)) == "success"
    assert found.failures.keys() <= FAILURES.keys()
    assert 0 < found.failures["HTTP 404"] <= KINDS["gone"]
    assert found.expected_samples == 3 * found.successes
    assert found.expected_bytes == 3 * found.bytes


def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, then: str) -> None:
    """Another environment's Python, in a few lines of shell."""
    python = tmp_path / "python"
    python.write_text(
        f"#!/bin/sh\nif [ \"$2\" = describe ]; then echo '{answer}'; exit; fi\n{then}\n"
    )
    python.chmod(0o755)
    monkeypatch.setenv(PYTHON_VARIABLE, str(python))


def described(*engines: str) -> str:
    names = [*OPTIONS.arguments(), "compute_hash"]
    return json.dumps({"version": "1.47.0", "options": names, "engines": engines})


@pytest.mark.parametrize(
    ("answer", "then", "sentence"),
    [
        ("{}", "", r"img2dataset is not installed there; pip install 'fsckit\[download\]'"),
        ("no JSON", "", "cannot be asked for img2dataset"),
        (described("ray"), "exit 0", "'multiprocessing': not an engine that img2dataset finds"),
        (
            described("multiprocessing"),
            "echo all is well",
            r"left 5 of 5 shards unfinished, 00000 the first \(all is well\)",
        ),
        # Ray begins its own cluster unless the user names one.
        (
            described("multiprocessing"),
            "echo at $RAY_ADDRESS; exit 3",
            r"ended with code 3 \(at local\)",
        ),
    ],
)
def test_no_work_done_is_no_success(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    then: str,
    sentence: str,
) -> None:
    stub(tmp_path, monkeypatch, answer, then)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(FsckitError, match=sentence):
        download_table([data.with_name("cc3m.tsv")], tmp_path / "data", OPTIONS)
    assert not (tmp_path / "data" / "shards").exists()


def test_a_missing_environment_is_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(FsckitError, match=rf"none: cannot be asked .* set {PYTHON_VARIABLE}"):
        download_table([data.with_name("cc3m.tsv")], tmp_path / "data", OPTIONS)


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"resize_mood": "no"}, r"'resize_mood': img2dataset 1\.\d+\.\d+ has no such option"),
        ({"user_agent_token": date(2024, 1, 2)}, "user_agent_token: '2024-01-02' is no text"),
        ({"timeout": float("nan")}, "timeout: 'nan' is no text, number"),
        ({"output_format": "files"}, "'output_format': fscdata gives this to img2dataset itself"),
        ({"save_additional_columns": ["url"]}, "'url': goes into every sample anyhow"),
        (
            {"save_additional_columns": ["width"]},
            "no column 'width'; its columns are 'caption', 'u",
        ),
    ],
)
def test_wrong_options_are_answered_before_the_start(
    data: Path, tmp_path: Path, extra: dict[str, object], sentence: str
) -> None:
    with pytest.raises(FsckitError, match=sentence):
        download_table(
            [data.with_name("cc3m.tsv")], tmp_path / "data", replace(OPTIONS, extra=extra)
        )


def test_retry_wants_a_finished_download(tmp_path: Path) -> None:
    with pytest.raises(FsckitError, match="no data set of a URL table"):
        retry(tmp_path)


def test_a_damaged_tar_is_not_whole(copy: Path) -> None:
    from fscdata.download.urls.shards import is_whole

    shards = copy / "shards"
    assert is_whole(shards, "00001", 60)
    assert not is_whole(shards, "00001", 61)
    tar = shards / "00001.tar"
    tar.write_bytes(tar.read_bytes()[: tar.stat().st_size // 2])
    assert not is_whole(shards, "00001")
    (shards / "00002_stats.json").unlink()
    assert not is_whole(shards, "00002")
