"""make-negatives gives the same bytes on every executor and in an object store."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fscdata.base.paths import data_path
from fscdata.steps.expected import Settings
from fscdata.steps.negatives import make_negatives
from support.captions import ODD, TEMPLATES
from support.s3_server import s3_server
from support.tars import write_shards

pytestmark = pytest.mark.slow

SAMPLES = [(f"{i:04d}", [text]) for i, text in enumerate([*TEMPLATES[:50], *ODD])]
ENGINES = {"local": None, "ray": "ray", "spark": "pyspark"}


def require(engine: str) -> None:
    """Skip if an engine cannot run here."""
    package = ENGINES[engine]
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"no {package}: pip install 'fsckit[{engine}]'")
    if engine == "spark" and shutil.which("java") is None:
        pytest.skip("no Java: apt-get install default-jre-headless")


def write(data: Path) -> Path:
    write_shards(data, [SAMPLES[i::5] for i in range(5)])
    return data


def tables(data: Path) -> dict[str, bytes]:
    return {str(p.relative_to(data)): p.read_bytes() for p in data.rglob("*.parquet")}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tables made in one process."""
    data = write(tmp_path_factory.mktemp("here"))
    make_negatives(data, Settings("fsc-clip", variants=2))
    return tables(data)


def run(data: object, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fscdata", "make-negatives", str(data)]
    command += ["--recipe", "fsc-clip", "--variants", "2", "--json", *options]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | environment
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_makes_the_same_bytes(
    engine: str, here: dict[str, bytes], tmp_path: Path
) -> None:
    require(engine)
    data = write(tmp_path)
    broken = data / "shards" / "00001.tar"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:3000])
    done = run(data, "--executor", engine, "--workers", "2")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert list(report["failed"]) == ["00001.tar"]
    assert "the tar is damaged" in report["failed"]["00001.tar"]
    assert report["shards"] == 4
    broken.write_bytes(whole)
    done = run(data, "--executor", engine, "--workers", "2")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["shards"], report["skipped"]) == (1, 4)
    assert tables(data) == here


def test_workers_read_and_write_an_object_store(here: dict[str, bytes], tmp_path: Path) -> None:
    write(tmp_path)
    with s3_server() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        server.client().create_bucket(Bucket="engines")
        place = data_path("s3://engines/set")
        for tar in tmp_path.glob("shards/*.tar"):
            (place / "shards" / tar.name).write_bytes(tar.read_bytes())
        done = run(place, "--workers", "2")
        assert done.returncode == 0, done.stderr
        made = {
            str(path.path).removeprefix("engines/set/"): path.read_bytes()
            for path in place.rglob("*.parquet")
        }
        verified = subprocess.run(
            [sys.executable, "-m", "fscdata", "verify", str(place)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert made == here
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "no faults" in verified.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("engine", ["ray", "spark"])
def test_a_signal_ends_an_engine_cleanly(
    engine: str, number: signal.Signals, code: int, tmp_path: Path
) -> None:
    """The signal goes to the process group, including Java, as from a terminal or a scheduler."""
    require(engine)
    write_shards(tmp_path, [[(f"{i}", [text])] for i in range(400) for _, [text] in [SAMPLES[0]]])
    command = ["make-negatives", str(tmp_path), "--recipe", "fsc-clip", "--executor", engine]
    process = subprocess.Popen(
        [sys.executable, "-m", "fscdata", *command, "--workers", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while not tables(tmp_path):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    assert "stopped; rerun the same command to make the rest" in stderr
    assert "Traceback" not in stderr
    assert len(tables(tmp_path)) < 400 * 4
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]
