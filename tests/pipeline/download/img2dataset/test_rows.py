"""Downloads URL tables with the real img2dataset, from a faulty server on loopback."""

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
from datetime import date
from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fscdata.contract import shard_paths
from fscdata.download.img2dataset.failures import is_temporary
from fscdata.download.img2dataset.options import TableOptions, read_job
from fscdata.download.img2dataset.process import PYTHON_VARIABLE
from fscdata.download.img2dataset.rows import download_rows, probe_rows, retry_rows
from fscdata.download.img2dataset.shards import Outcomes, is_complete, read_outcomes
from fscdata.steps.expected import Settings
from fscdata.steps.negatives import make_negatives
from support.image_server import KINDS, TIMEOUT, ImageServer, write_cc3m_table
from support.installed import skip_without

pytestmark = pytest.mark.slow

skip_without("img2dataset", "download")

SETTINGS: dict[str, object] = {
    "number_sample_per_shard": 60,
    "processes_count": 1,
    "thread_count": 16,
    "timeout": TIMEOUT,
}


def options(**settings: object) -> TableOptions:
    return TableOptions("url", "caption", ("caption", "url"), SETTINGS | settings)


def download(table: Path, folder: Path, **settings: object) -> Outcomes:
    download_rows([table], folder, options(**settings), lambda done, rows: None)
    return read_outcomes(folder / "shards")


def retry(folder: Path, times: int = 1) -> tuple[int, int]:
    """Retry; returns the numbers of new samples and new shards."""
    before, shards = read_outcomes(folder / "shards"), len(shard_paths(folder))
    retry_rows(folder, times, lambda done, rows: None)
    after = read_outcomes(folder / "shards")
    return after.successes - before.successes, len(shard_paths(folder)) - shards


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


@pytest.fixture(scope="module")
def no_proxy() -> Iterator[None]:
    """Bypass a proxy in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "127.0.0.1")
        yield


@pytest.fixture(scope="module")
def server(no_proxy: None) -> Iterator[ImageServer]:
    with ImageServer() as server:
        yield server


@pytest.fixture(scope="module")
def data(server: ImageServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set after an undisturbed download; its table is next to it."""
    folder = tmp_path_factory.mktemp("urls")
    write_cc3m_table(folder / "cc3m.tsv", server.url)
    seen: list[tuple[int, int]] = []
    download_rows(
        [folder / "cc3m.tsv"],
        folder / "data",
        options(),
        lambda done, rows: seen.append((done, rows)),
    )
    outcomes = read_outcomes(folder / "data" / "shards")
    assert outcomes.successes == KINDS["ok"]
    assert outcomes.reasons == FAILURES
    assert len(shard_paths(folder / "data")) == 5
    assert read_job(folder / "data").skipped == {}
    assert seen[-1] == (300, 300)
    return folder / "data"


@pytest.fixture
def copy(data: Path, tmp_path: Path) -> Path:
    shutil.copytree(data, tmp_path / "data")
    return tmp_path / "data"


def samples(data: Path) -> dict[str, tuple[str, bytes]]:
    """key → (caption, image); each key is unique."""
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


def test_every_sample_has_the_image_of_its_row(data: Path) -> None:
    found = samples(data)
    assert len(found) == KINDS["ok"]
    assert all(caption.startswith('a "ok" image ') for caption, _ in found.values())
    # A key is the shard's number and two digits for the row in the shard.
    assert {int(k[:-2]) * 60 + int(k[-2:]) for k in found} == {
        int(caption.split()[-1]) for caption, _ in found.values()
    }
    assert sorted(path.name for path in (data / "shards").iterdir()) == sorted(
        f"{i:05d}{ending}" for i in range(5) for ending in (".tar", ".parquet", "_stats.json")
    )
    assert not (data / "urls" / "working").exists()


def test_a_rerun_requests_nothing(data: Path, server: ImageServer) -> None:
    before = server.requests.total()
    outcomes = download(data.with_name("cc3m.tsv"), data, timeout=9)
    assert (outcomes.successes, outcomes.reasons) == (KINDS["ok"], FAILURES)
    assert server.requests.total() == before


def test_refuses_other_options_on_resume(data: Path) -> None:
    with pytest.raises(FsckitError, match=r"started with another table or other options"):
        download(data.with_name("cc3m.tsv"), data, image_size=64)


def test_retries_only_temporary_failures(copy: Path, server: ImageServer) -> None:
    samples_and_shards = retry(copy, times=2)
    healed = sum(KINDS[kind] for kind in ("unwell", "busy", "slow", "dropped", "sick"))
    assert samples_and_shards == (healed, 2)
    left = {"HTTP 5xx": KINDS["broken"], "time-out": KINDS["stuck"]}
    permanent = {why: n for why, n in FAILURES.items() if not is_temporary(why)}
    assert read_outcomes(copy / "shards").reasons == permanent | left

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
    # The remaining rows never succeed: one round, and no shard without an image.
    assert retry(copy, times=3) == (0, 0)
    assert read_outcomes(copy / "shards").reasons == permanent | left
    assert server.requests.total() == sum(asked_before.values()) + sum(left.values())

    # As if killed while a retry was moving its last shard.
    working = copy / "urls" / "working"
    working.mkdir()
    for name in ("00006_stats.json", "00006.parquet"):
        (copy / "shards" / name).rename(working / name)
    retry_rows(copy, 0, lambda done, rows: None)
    assert samples(copy) == found
    assert not working.exists()

    report = make_negatives(copy, Settings("shuffle-1"))
    assert (report.shards, report.captions, report.failed) == (7, len(found), {})


def test_a_kill_leaves_the_same_data_set(data: Path, tmp_path: Path) -> None:
    with ImageServer(heals=False, delay=0.02) as server:
        table = tmp_path / "cc3m.tsv"
        write_cc3m_table(table, server.url)
        settings = {"thread_count": 8}
        script = (
            "import sys, json; from pathlib import Path\n"
            "from fscdata.download.img2dataset.options import TableOptions\n"
            "from fscdata.download.img2dataset.rows import download_rows\n"
            "table, folder, settings = sys.argv[1:]\n"
            "options = TableOptions('url', 'caption', ('caption', 'url'), json.loads(settings))\n"
            "download_rows([Path(table)], Path(folder), options, lambda done, rows: None)"
        )
        program = [sys.executable, "-c", script]
        process = subprocess.Popen(
            [*program, table, tmp_path / "data", json.dumps(SETTINGS | settings)],
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
        complete = {p: p.stat().st_mtime_ns for p in working.glob("00000.*")}
        assert complete
        # As if killed while writing stats; img2dataset would skip this shard.
        (working / "00003.tar").write_bytes(b"half")
        (working / "00003_stats.json").write_text('{"count": 6')

        outcomes = download(table, tmp_path / "data", **settings)
    assert (outcomes.successes, outcomes.reasons) == (KINDS["ok"], FAILURES)
    assert samples(tmp_path / "data") == samples(data)
    for path, written in complete.items():
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


def test_a_probe_predicts_the_yield(data: Path, tmp_path: Path, server: ImageServer) -> None:
    probe = probe_rows([data.with_name("cc3m.tsv")], tmp_path, options(), rows=100, seed=7)
    assert (probe.table_rows, probe.rows) == (300, 100)
    assert sum(probe.outcomes.values()) == 100
    assert probe.outcomes["success"] > 50
    assert next(iter(probe.outcomes)) == "success"
    assert probe.outcomes.keys() - {"success"} <= FAILURES.keys()
    assert 0 < probe.outcomes["HTTP 404"] <= KINDS["gone"]
    assert probe.expected_samples == 3 * probe.outcomes["success"]
    assert probe.expected_bytes == 3 * probe.bytes


def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, then: str) -> None:
    """A stand-in for another environment's Python, in a few lines of shell."""
    python = tmp_path / "python"
    python.write_text(
        f"#!/bin/sh\nif [ \"$2\" = describe ]; then echo '{answer}'; exit; fi\n{then}\n"
    )
    python.chmod(0o755)
    monkeypatch.setenv(PYTHON_VARIABLE, str(python))


def described(*engines: str) -> str:
    names = [*options().arguments(), "compute_hash"]
    return json.dumps({"version": "1.47.0", "options": names, "engines": engines})


@pytest.mark.parametrize(
    ("answer", "then", "sentence"),
    [
        ("{}", "", r"img2dataset is not installed; run: pip install 'fsckit\[download\]'"),
        ("no JSON", "", "cannot be run to find img2dataset"),
        (described("ray"), "exit 0", "engine 'multiprocessing' is not installed"),
        (
            described("multiprocessing"),
            "echo all is well",
            r"left 5 of 5 shards unfinished, starting with 00000 \(all is well\)",
        ),
        # Ray starts a local cluster unless the user names one.
        (
            described("multiprocessing"),
            "echo at $RAY_ADDRESS; exit 3",
            r"exited with 3 \(at local\)",
        ),
    ],
)
def test_reports_an_img2dataset_that_did_no_work(
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
        download(data.with_name("cc3m.tsv"), tmp_path / "data")
    assert not (tmp_path / "data" / "shards").exists()


def test_names_a_missing_environment(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(FsckitError, match=rf"none: cannot be run .* set {PYTHON_VARIABLE}"):
        download(data.with_name("cc3m.tsv"), tmp_path / "data")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"resize_mood": "no"}, r"unknown option 'resize_mood' of img2dataset 1\.\d+\.\d+;"),
        ({"user_agent_token": date(2024, 1, 2)}, "user_agent_token: '2024-01-02' is not text"),
        ({"timeout": float("nan")}, "timeout: 'nan' is not text, a number"),
        ({"output_format": "files"}, "'output_format': fscdata sets this option of img2dataset"),
        ({"save_additional_columns": ["url"]}, "'url': every sample has this column already"),
        (
            {"save_additional_columns": ["width"]},
            "no column 'width'; its columns are 'caption', 'u",
        ),
    ],
)
def test_refuses_wrong_options_before_the_start(
    data: Path, tmp_path: Path, settings: dict[str, object], sentence: str
) -> None:
    with pytest.raises(FsckitError, match=sentence):
        download(data.with_name("cc3m.tsv"), tmp_path / "data", **settings)


def test_retry_needs_a_finished_download(tmp_path: Path) -> None:
    with pytest.raises(FsckitError, match="not made from a URL table"):
        retry_rows(tmp_path, 1, lambda done, rows: None)


def test_a_damaged_shard_is_not_complete(copy: Path) -> None:
    shards = copy / "shards"
    assert is_complete(shards, "00001", 60)
    assert not is_complete(shards, "00001", 61)
    tar = shards / "00001.tar"
    tar.write_bytes(tar.read_bytes()[: tar.stat().st_size // 2])
    assert not is_complete(shards, "00001")
    (shards / "00002_stats.json").unlink()
    assert not is_complete(shards, "00002")
