"""Downloads URL tables with img2dataset's engines Ray and Spark, as a user does."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from fscdata.contract import shard_paths
from support.file_server import FileServer
from support.image_server import TIMEOUT, ImageServer
from support.installed import skip_without
from support.manifests import manifest

pytestmark = pytest.mark.slow

skip_without("img2dataset", "download")

# In the table's order. The last shard waits for timeouts, so it never finishes first.
KINDS = [
    *["ok"] * 8, *["gone"] * 2,
    *["ok"] * 8, "html", "broken",
    *["ok"] * 6, *["stuck"] * 4,
]  # fmt: skip
PER_SHARD = 10
FAILURES = {"time-out": "4", "HTTP 404": "2", "not an image": "1", "HTTP 5xx": "1"}
TABLE = "".join(f"image {i}\t{{url}}/{kind}/{i}\n" for i, kind in enumerate(KINDS))
# What is killed, by its command line: img2dataset, which is Ray's driver, and Spark's JVM. (Ray
# itself retries the work of lost workers and raylets.)
ENGINES = {"ray": "program.py download", "pyspark": "SparkSubmit"}


def require(engine: str) -> None:
    """Skip the test if an engine is not installed."""
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"no {engine}: pip install 'fsckit[{engine.removeprefix('py')}]'")
    if engine == "pyspark" and shutil.which("java") is None:
        pytest.skip("no Java: apt-get install default-jre-headless")


@dataclass(frozen=True)
class Killed:
    """A download whose engine got SIGKILL once a shard was complete, and its result."""

    command: list[str]
    environment: dict[str, str]
    folder: Path
    code: int
    output: str
    errors: str
    complete: dict[str, int]  # the files of the finished shards, with their times
    family: dict[int, str]  # its processes, by their ids

    @property
    def working(self) -> Path:
        return self.folder / "urls" / "working"

    def again(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command, capture_output=True, text=True, check=False, env=self.environment
        )


@pytest.fixture(scope="module", params=ENGINES)
def killed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Killed]:
    engine: str = request.param
    require(engine)
    place = tmp_path_factory.mktemp(engine)
    # With torch installed, webdataset would delay each worker by half a minute.
    (place / "torch.py").write_text("raise ModuleNotFoundError('torch')\n")
    with FileServer() as files, ImageServer(heals=False) as images:
        address = files.serve("t.tsv", TABLE.format(url=images.url).encode())
        manifest(
            place,
            kind="urls",
            table_files=[{"name": "t.tsv", "addresses": [address]}],
            columns=["caption", "url"],
            url_column="url",
            caption_column="caption",
            options={
                "timeout": TIMEOUT, "number_sample_per_shard": PER_SHARD, "thread_count": 2,
            },
        )  # fmt: skip
        command = [sys.executable, "-m", "fscdata", "download", str(place / "small.yaml")]
        command += [str(place / "data"), "--engine", engine, "--workers", "2"]
        paths = os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": paths, "no_proxy": "127.0.0.1"}
        yield kill(command, environment, place / "data", ENGINES[engine])


def kill(command: list[str], environment: dict[str, str], folder: Path, victim: str) -> Killed:
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    working = folder / "urls" / "working"
    try:
        until(lambda: any(working.glob("*_stats.json")) or process.poll() is not None)
        first = {path.name[:5] for path in working.glob("*_stats.json")}  # the last file of a shard
        family = descendants(process.pid)
        for pid in [pid for pid, words in family.items() if victim in words]:
            os.kill(pid, signal.SIGKILL)
        output, errors = process.communicate(timeout=120)
    finally:
        process.kill()  # img2dataset and its engine end with it
    files = [path for shard in first for path in working.glob(f"{shard}*")]
    complete = {path.name: path.stat().st_mtime_ns for path in files}
    return Killed(
        command, environment, folder, process.returncode, output, errors, complete, family
    )


def until(happens: Callable[[], object]) -> None:
    end = time.monotonic() + 240
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.02)


def processes() -> dict[int, tuple[int, str, str]]:
    """Parent, state and command line of every process, by its id."""
    listing = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,stat=,args="],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = (line.split(maxsplit=3) for line in listing.stdout.splitlines())
    return {int(own): (int(parent), state, " ".join(words)) for own, parent, state, *words in rows}


def descendants(pid: int) -> dict[int, str]:
    """The processes below one, with their command lines."""
    every, found = processes(), {pid: ""}
    while more := {
        own: words
        for own, (parent, _, words) in every.items()
        if parent in found and own not in found
    }:
        found |= more
    return {own: words for own, words in found.items() if own != pid}


def alive(family: dict[int, str]) -> list[str]:
    """The command lines of the processes still running; zombies do not count."""
    every = processes()
    running = [pid for pid, words in family.items() if pid in every and every[pid][2] == words]
    return [family[pid] for pid in running if not every[pid][1].startswith("Z")]


def test_reports_a_killed_engine_in_one_sentence(killed: Killed) -> None:
    assert killed.code == 1, killed.output
    assert killed.output == ""
    assert "Traceback" not in killed.errors
    [*_, said] = killed.errors.splitlines()
    assert said.startswith("fscdata: img2dataset exited with ")
    assert said.endswith("img2dataset.log, and rerun the command to resume")
    assert "probe of 30 rows: success: 22, time-out: 4, HTTP 404: 2" in killed.errors
    assert not (killed.folder / "shards").exists()
    assert json.loads((killed.folder / "SOURCE.json").read_text())["complete"] is False
    assert killed.complete, "a shard was complete before the kill"

    until(
        lambda: not alive(killed.family)
    )  # surviving workers would write into the next run's folder


def test_resumes_after_a_killed_engine(killed: Killed) -> None:
    done = killed.again()
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "probe of" not in done.stderr, "it resumes instead of restarting"
    left_out = done.stdout.partition("left out: ")[2].splitlines()[0]
    assert dict(reason.rsplit(": ", 1) for reason in left_out.split(", ")) == FAILURES
    assert f"5 rows failed temporarily; to retry: fscdata retry {killed.folder}" in done.stdout
    record = json.loads((killed.folder / "SOURCE.json").read_text())
    assert (record["complete"], record["samples"]) == (True, KINDS.count("ok"))
    reds = reds_by_caption(killed.folder)
    rows = [row for row, kind in enumerate(KINDS) if kind == "ok"]
    assert sorted(reds) == sorted(f"image {row}" for row in rows)
    assert all(abs(reds[f"image {row}"] - row) <= 3 for row in rows), "each image matches its row"
    shards = killed.folder / "shards"
    names = [f"0000{i}{end}" for i in range(3) for end in (".parquet", ".tar", "_stats.json")]
    assert sorted(path.name for path in shards.iterdir()) == names
    for name, written in killed.complete.items():
        assert (shards / name).stat().st_mtime_ns == written, "finished shards are kept"
    assert not killed.working.exists()
    again = killed.again()
    assert (again.returncode, again.stderr) == (0, "")
    assert "already complete, 3 shards, 22 samples, 22 captions" in again.stdout


def reds_by_caption(data: Path) -> dict[str, int]:
    """The red value of each caption's image: the row's number, give or take JPEG's error."""
    reds: dict[str, int] = {}
    for tar in shard_paths(data):
        with tarfile.open(tar) as members:
            content = {member.name: members.extractfile(member).read() for member in members}
        for name, caption in content.items():
            if name.endswith(".txt"):
                image = Image.open(io.BytesIO(content[name.replace(".txt", ".jpg")]))
                assert caption.decode() not in reds
                reds[caption.decode()], *_ = image.convert("RGB").getpixel((5, 5))
    return reds
