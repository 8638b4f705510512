"""Runs of make-negatives that fail for real: signals, full disks, broken tars."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fscdata.contract import negatives_path, samples_path
from support.captions import ODD, TEMPLATES
from support.tars import write_shards
from support.warm import run_warm

pytestmark = pytest.mark.slow

SHARDS = 8
KILLS = 20
SAMPLES = [(f"{i:06d}", [text, f"{text} and a tree"]) for i, text in enumerate([*TEMPLATES, *ODD])]


def command(data: Path, *options: str) -> list[str]:
    arguments = ["--recipe", "fsc-clip", "--variants", "2", "--workers", "2", *options]
    return [sys.executable, "-m", "fscdata", "make-negatives", str(data), *arguments]


def run(data: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run without workers, since each takes seconds to load spaCy and its model."""
    return run_warm(*command(data, "--workers", "0", *options)[2:])


def start(data: Path, *options: str) -> subprocess.Popen[str]:
    """Start in a new process group, like a terminal's job."""
    return subprocess.Popen(
        command(data, *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def tables(data: Path) -> dict[str, bytes]:
    return {str(p.relative_to(data)): p.read_bytes() for p in data.glob("**/*.parquet")}


def times(data: Path) -> dict[str, int]:
    return {str(p.relative_to(data)): p.stat().st_mtime_ns for p in data.glob("**/*.parquet")}


def rubbish(data: Path) -> list[Path]:
    """The files that are not tars, tables or the lock."""
    files = [p for p in data.rglob("*") if p.is_file() and p.suffix not in (".tar", ".parquet")]
    return [p for p in files if p.name not in (".fscdata.lock", "README.md")]


def until(happens: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not happens():
        assert process.poll() is None, f"ended too early: {process.communicate()}"
        time.sleep(0.002)


def workers(process: subprocess.Popen[str]) -> list[int]:
    """The worker processes of a run."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [pid for pid in map(int, children) if b"spawn_main" in _command_line(pid)]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


def fresh(data: Path, shards: int = SHARDS, times: int = 1) -> Path:
    """A data set without tables; its captions are repeated `times` times, numbered."""
    captions = [
        (f"{n}{key}", [f"{text} {n}" if n else text for text in texts])
        for n in range(times)
        for key, texts in SAMPLES
    ]
    size = -(-len(captions) // shards)
    write_shards(data, [captions[i : i + size] for i in range(0, len(captions), size)])
    return data


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], float]:
    """The tables of an undisturbed run, and the seconds it takes once it has workers."""
    data = fresh(tmp_path_factory.mktemp("undisturbed"))
    process = start(data)
    until(partial(workers, process), process)
    started = time.monotonic()
    process.communicate()
    seconds = time.monotonic() - started
    assert process.returncode == 0
    assert len(tables(data)) == SHARDS * 4
    return tables(data), seconds


def test_survives_kills_at_twenty_random_moments(
    undisturbed: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    whole, seconds = undisturbed
    data = fresh(tmp_path)
    seed = time.time_ns()
    print(f"seed {seed}")  # shown if the test fails
    instants = random.Random(seed)
    kills = 0
    while kills < KILLS:
        before = times(data)
        process = start(data)
        if instants.random() < 0.8:  # the others are killed while the command starts
            until(partial(workers, process), process)
        try:
            process.communicate(timeout=instants.uniform(0, 0.7 * seconds))
            assert process.returncode == 0
        except subprocess.TimeoutExpired:
            if instants.random() < 0.5:
                process.kill()  # its workers notice and exit
            else:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills += 1
        assert before.items() <= times(data).items(), "finished tables are kept"
        made = tables(data)
        assert made.items() <= whole.items(), "a file with its final name is complete"
        if process.returncode == 0:
            assert made == whole
            assert rubbish(data) == []
            shutil.rmtree(data / "samples")
            shutil.rmtree(data / "negatives")
    before = times(data)
    last = run(data)
    assert last.returncode == 0, last.stderr
    assert before.items() <= times(data).items()
    assert tables(data) == whole
    assert rubbish(data) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("group", [True, False], ids=["to the group", "to the command"])
def test_a_signal_ends_the_run_cleanly(
    number: signal.Signals, code: int, group: bool, tmp_path: Path
) -> None:
    data = fresh(tmp_path, times=8)
    process = start(data)
    until(lambda: tables(data), process)
    at_work = workers(process)
    assert at_work
    (os.killpg if group else os.kill)(process.pid, number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert "stopped; rerun the same command to make the rest" in stderr
    assert "Traceback" not in stderr
    assert rubbish(data) == []
    assert len(tables(data)) < SHARDS * 4
    assert not any(b"spawn_main" in _command_line(pid) for pid in at_work)


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    """Like the kernel's out-of-memory killer."""
    data = fresh(tmp_path, shards=2, times=4)
    process = start(data, "--json")
    until(lambda: len(workers(process)) == 2, process)
    time.sleep(0.5)  # it has its shard by then, and is still loading the model
    os.kill(workers(process)[0], signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    report = json.loads(stdout)
    assert (report["shards"], report["retried"], report["failed"]) == (2, 1, {})
    assert rubbish(data) == []
    assert len(tables(data)) == 2 * 4


def test_a_shard_whose_worker_is_killed_twice_is_named(tmp_path: Path) -> None:
    data = fresh(tmp_path, shards=1, times=40)
    (data / "shards" / "00000.tar").rename(data / "shards" / "00001.tar")
    fresh(tmp_path / "small", shards=1)
    (tmp_path / "small" / "shards" / "00000.tar").rename(data / "shards" / "00000.tar")
    process = start(data, "--workers", "1")
    until(lambda: samples_path(data, "00000").exists(), process)
    killed: set[int] = set()
    while len(killed) < 2:
        until(lambda: set(workers(process)) - killed, process)
        time.sleep(0.5)  # a new worker has the shard by then
        for pid in set(workers(process)) - killed:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "00001.tar: killed by SIGKILL" in stderr
    assert negatives_path(data, "replace", "00000").exists()
    assert not samples_path(data, "00001").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A separate file system, mounted with the given options; it can be remounted."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        if os.path.ismount(folder):
            options = f"remount,{options}"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True, check=False)


def test_a_full_disk_is_one_sentence(
    undisturbed: tuple[dict[str, bytes], float], small_disk: Callable[[str], Path]
) -> None:
    whole, _ = undisturbed
    data = fresh(small_disk("size=16m"))
    tars = sum(path.stat().st_size for path in data.glob("shards/*"))
    room = tars + sum(map(len, whole.values())) // 2
    small_disk(f"size={room // 4096 * 4}k")
    failed = run(data)
    assert failed.returncode == 1
    assert "No space left on device" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert 0 < len(tables(data)) < len(whole)
    assert tables(data).items() <= whole.items()
    assert rubbish(data) == []
    before = times(data)
    small_disk("size=16m")
    assert run(data).returncode == 0
    assert before.items() <= times(data).items()
    assert tables(data) == whole


def test_an_unwritable_folder_is_named(small_disk: Callable[[str], Path]) -> None:
    data = fresh(small_disk("size=16m"))
    small_disk("ro")
    failed = run(data)
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"fscdata: {data}: cannot be written")
    assert failed.stderr.count("\n") == 1
    small_disk("rw")


def test_damaged_tars_are_named(
    undisturbed: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    whole, _ = undisturbed
    data = fresh(tmp_path)
    cut, garbage = (data / "shards" / f"{i:05d}.tar" for i in (2, 5))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    content = garbage.read_bytes()
    middle = len(content) // 1024 * 512
    garbage.write_bytes(content[:middle] + random.randbytes(2048) + content[middle + 2048 :])
    failed = run(data, "--quiet")
    assert failed.returncode == 1
    sentences = failed.stderr.splitlines()
    assert len(sentences) == 2
    assert all("the tar is damaged" in sentence for sentence in sentences)
    assert {cut.name, garbage.name} == {s.split(": ")[1].rpartition("/")[2] for s in sentences}
    made = tables(data)
    assert len(made) == (SHARDS - 2) * 4
    assert made.items() <= whole.items()

    before = times(data)
    fresh(tmp_path)
    assert run(data).returncode == 0
    assert before.items() <= times(data).items()
    assert tables(data) == whole


def test_a_second_run_on_the_folder_stops(tmp_path: Path) -> None:
    data = fresh(tmp_path, times=8)
    first = start(data)
    until(lambda: tables(data), first)
    first.send_signal(signal.SIGSTOP)
    second = run(data)
    first.send_signal(signal.SIGCONT)
    assert second.returncode == 1
    assert "another process is using it" in second.stderr
    assert second.stderr.count("\n") == 1
    _, stderr = first.communicate(timeout=120)
    assert first.returncode == 0, stderr
    assert len(tables(data)) == SHARDS * 4


@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed")
def test_a_clock_that_jumps_back_is_harmless(
    undisturbed: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    """Half of the shards are made today; then the clock jumps back twenty years."""
    whole, _ = undisturbed
    data = fresh(tmp_path)
    assert run(data, "--limit", str(SHARDS // 2)).returncode == 0
    before = times(data)
    report = run_in_the_past(data)
    assert (report["shards"], report["skipped"]) == (SHARDS // 2, SHARDS // 2)
    assert report["seconds"] > 0
    assert before.items() <= times(data).items()
    assert tables(data) == whole
    tar = data / "shards" / "00003.tar"
    tar.write_bytes(tar.read_bytes().replace(b"tree", b"bush"))
    assert run_in_the_past(data)["shards"] == 1, "a tar changed in the past is noticed"


def run_in_the_past(data: Path) -> dict[str, Any]:
    past = ["faketime", "-f", "-20y", *command(data, "--json", "--workers", "1")]
    done = subprocess.run(past, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report
