"""One suite for all executors, with real local Ray and Spark."""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fscdata.executors import EXECUTORS, Executor, create_executor
from fscdata.executors.base import usable_cpus
from support import SUPPORT, TESTS
from support.executor_steps import Count, Megabytes, Square, Wait, attempts_so_far, threads

pytestmark = pytest.mark.slow

PACKAGES = {"local": None, "ray": "ray", "spark": "pyspark"}
CLEANS_UP = {"local", "ray"}  # Spark kills the workers of a cancelled job


def require(name: str) -> None:
    """Skip if an executor cannot run here."""
    package = PACKAGES[name]
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"no {package}: pip install 'fsckit[{name}]'")
    if name == "spark" and shutil.which("java") is None:
        pytest.skip("no Java: apt-get install default-jre-headless")


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until another process has done something."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.05)


def gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def waiting(folder: Path, count: int) -> list[int]:
    """The processes of at least `count` attempts of Wait, once they are waiting."""
    until(lambda: len([*folder.glob("pid-?-?")]) >= count, f"{count} waiting attempts")
    return [int(path.read_text()) for path in folder.glob("pid-?-?")]


@pytest.fixture(scope="module", params=EXECUTORS)
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    """An executor's name; Ray and Spark are started once, as in a notebook that has a session."""
    require(request.param)
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)
        if request.param == "local":
            yield request.param
            return
        engine = importlib.import_module(f"fscdata.executors.{request.param}")
        context = engine._connect(2, None)
        yield request.param
        context.stop() if context is not None else engine.ray.shutdown()


@pytest.fixture
def executor(name: str) -> Executor:
    return create_executor(name, workers=2)


def test_every_item_has_a_result(executor: Executor, tmp_path: Path) -> None:
    outcomes = list(executor.run(Square(str(tmp_path)), range(12)))
    assert sorted(outcome.index for outcome in outcomes) == list(range(12))
    assert all(outcome.result == outcome.index**2 for outcome in outcomes)
    assert {(outcome.reason, outcome.attempts) for outcome in outcomes} == {(None, 1)}


def test_an_empty_list_needs_no_engine(executor: Executor, tmp_path: Path) -> None:
    assert list(executor.run(Square(str(tmp_path)), [])) == []


def test_items_that_fail_once_are_retried(executor: Executor, tmp_path: Path) -> None:
    how = {1: "exception", 4: "kill"}
    outcomes = list(executor.run(Square(str(tmp_path), how, times=1), range(6)))
    assert {o.index: o.result for o in outcomes} == {i: i * i for i in range(6)}
    assert {o.index: o.attempts for o in outcomes if o.attempts > 1} == {1: 2, 4: 2}


def test_items_that_fail_twice_are_reported(executor: Executor, name: str, tmp_path: Path) -> None:
    how = dict(enumerate(["exception", "refusal", "kill", "exit", "unpicklable"]))
    outcomes = list(executor.run(Square(str(tmp_path), how, times=9), range(9)))
    assert {o.index: o.result for o in outcomes if o.reason is None} == {
        i: i * i for i in range(5, 9)
    }
    lost = {how[o.index]: o for o in outcomes if o.reason is not None}
    assert {(o.result, o.attempts) for o in lost.values()} == {(None, 2)}
    assert [attempts_so_far(str(tmp_path), i) for i in range(9)] == [2] * 5 + [1] * 4
    died = "its worker was killed or crashed (out of memory?)"
    local = name == "local"
    assert {key: o.reason for key, o in lost.items() if key != "unpicklable"} == {
        "exception": r"ValueError: first line second \x1b[31mline",
        "refusal": "00003.tar: the tar is damaged; fetch or pack it again",
        "kill": "killed by SIGKILL (out of memory?)" if local else died,
        "exit": "its worker exited with code 3" if local else died,
    }
    assert "pickle" in str(lost["unpicklable"].reason)


def test_large_results_arrive_intact(executor: Executor) -> None:
    outcomes = list(executor.run(Megabytes(), [5, 0, 20]))
    assert {o.index: len(o.result or b"") >> 20 for o in outcomes} == {0: 5, 1: 0, 2: 20}


def test_each_worker_has_one_thread(executor: Executor) -> None:
    before = dict(os.environ)
    outcomes = list(executor.run(threads, range(3)))
    assert [o.result for o in outcomes] == [["1"] * 4] * 3
    assert dict(os.environ) == before


def test_prints_do_not_reach_the_drivers_output(
    executor: Executor, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert len(list(executor.run(Square(str(tmp_path), {1: "kill"}, times=1), range(4)))) == 4
    assert capfd.readouterr().out == ""


def test_a_step_must_be_importable_by_workers(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = type(sys)("only_here")
    exec("class Nowhere:\n    def __call__(self, item, tick): pass", module.__dict__)  # noqa: S102
    module.Nowhere.__module__ = "only_here"
    monkeypatch.setitem(sys.modules, "only_here", module)
    (outcome,) = executor.run(module.Nowhere(), [1])
    assert "cannot import the step (No module named 'only_here')" in str(outcome.reason)
    assert "install the same fsckit" in str(outcome.reason)


def test_closing_the_iterator_stops_the_workers(
    executor: Executor, name: str, tmp_path: Path
) -> None:
    outcomes = executor.run(Wait(str(tmp_path)), [0, *range(1, 9)])
    assert next(outcomes).index == 0
    waiting(tmp_path, 1)
    outcomes.close()  # type: ignore[attr-defined]
    pids = waiting(tmp_path, 1)
    if name in CLEANS_UP:
        assert len([*tmp_path.glob("cleaned-*")]) == len(pids)
    if name != "ray":  # Ray's workers live as long as the session
        until(lambda: all(map(gone, pids)), "the workers' end")
    assert len([*tmp_path.glob("attempts-*")]) == len(pids) < 4, "no further item starts"


def driver(name: str, folder: Path, step: str, items: str, *address: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            str(SUPPORT / "drive_executor.py"),
            name,
            str(folder),
            step,
            items,
            *address,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        start_new_session=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("own", EXECUTORS)
def test_a_stopped_driver_leaves_no_workers(
    own: str, number: signal.Signals, tmp_path: Path
) -> None:
    require(own)
    process = driver(own, tmp_path, "Wait", "0,1,2,3")
    assert process.stdout is not None
    assert process.stdout.readline() == "0 None 1\n"
    pids = waiting(tmp_path, 2)
    process.send_signal(number)
    assert process.wait(60) == (130 if number == signal.SIGINT else -signal.SIGKILL)
    until(lambda: all(map(gone, pids)), "the workers' end")
    assert process.stdout.read() == ""
    if number == signal.SIGINT:
        until(lambda: len(list(tmp_path.glob("cleaned-*"))) == 2, "the clean-ups")


@pytest.mark.parametrize(("own", "program"), [("ray", b"gcs_server"), ("spark", b"java")])
def test_a_driver_stopped_during_start_leaves_no_engine(
    own: str, program: bytes, tmp_path: Path
) -> None:
    require(own)
    process = driver(own, tmp_path, "Square", "0,1,2,3")
    started: list[int] = []

    def starts() -> bool:
        assert process.poll() is None, process.communicate()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        started.extend(pid for pid in map(int, children) if program in command_line(pid))
        return bool(started)

    until(starts, "the engine's process")
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Exception" not in stderr
    until(lambda: all(map(gone, started)), "the engine's end")


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("name", ["ray"], indirect=True)
def test_a_running_cluster_is_used(name: str, tmp_path: Path) -> None:
    ray = importlib.import_module(
        "fscdata.executors.ray"
    ).ray  # imported with that module's settings
    address = ray.get_runtime_context().gcs_address
    out, err = driver(name, tmp_path, "Square", "1,2,3", address).communicate(timeout=60)
    assert sorted(out.splitlines()) == ["0 None 1", "1 None 1", "2 None 1"], err
    assert ray.cluster_resources()["CPU"] == 2, "the cluster is still running"


def test_ticks_reach_the_driver() -> None:
    heard: list[tuple[int, int, int]] = []
    outcomes = create_executor("local", 2).run(Count(), [60, 50], lambda *t: heard.append(t))
    assert sorted(o.result or 0 for o in outcomes) == [50, 60]
    for index, of in enumerate([60, 50]):
        ticks = [tick for tick in heard if tick[0] == index]
        assert ticks[0] == (index, 0, of)
        assert 2 <= len(ticks) <= of, "ticks are limited"
        assert ticks == sorted(ticks)


def test_zero_workers_run_in_the_driver(tmp_path: Path) -> None:
    heard: list[tuple[int, int, int]] = []
    executor = create_executor("local", workers=0)
    assert [o.result for o in executor.run(Count(), [1, 2], lambda *t: heard.append(t))] == [1, 2]
    assert heard == [(0, 0, 1), (0, 1, 1), (1, 0, 2), (1, 1, 2), (1, 2, 2)]
    step = Square(str(tmp_path), {0: "refusal", 1: "exception"}, times=1)
    assert [(o.result, o.attempts) for o in executor.run(step, range(3))] == [
        (0, 2),
        (1, 2),
        (4, 1),
    ]
    (outcome,) = executor.run(Wait(str(tmp_path)), [0])
    assert outcome.result == os.getpid()


def test_a_terminated_worker_cleans_up(tmp_path: Path) -> None:
    outcomes = create_executor("local", 1).run(Wait(str(tmp_path)), [1])

    def stop_both_attempts() -> None:
        for count in (1, 2):
            for pid in waiting(tmp_path, count):
                if not gone(pid):
                    os.kill(pid, signal.SIGTERM)

    stopper = threading.Thread(target=stop_both_attempts)
    stopper.start()
    (outcome,) = outcomes
    stopper.join()
    assert (outcome.reason, outcome.attempts) == ("killed by SIGTERM", 2)
    assert len(list(tmp_path.glob("cleaned-1-*"))) == 2


def test_a_worker_that_dies_while_idle_costs_no_attempt(tmp_path: Path) -> None:
    outcomes = create_executor("local", 1).run(Wait(str(tmp_path)), [0, 0, 0])
    for outcome in outcomes:
        assert (outcome.reason, outcome.attempts) == (None, 1)
        assert outcome.result is not None
        os.kill(outcome.result, signal.SIGKILL)
        until(lambda: not multiprocessing.active_children(), "its end")


def test_a_missing_extra_is_named() -> None:
    for name in ("ray", "spark"):
        code = (
            "import sys\n"
            "class Absent:\n"
            "    def find_spec(self, name, *rest):\n"
            "        if name in ('ray', 'pyspark', 'py4j'):\n"
            "            raise ModuleNotFoundError(f'No module named {name!r}')\n"
            "sys.meta_path.insert(0, Absent())\n"
            "from fscdata.base.errors import FsckitError\n"
            "from fscdata.executors import create_executor\n"
            "try:\n"
            f"    create_executor({name!r})\n"
            "except FsckitError as error:\n"
            "    print(error)\n"
        )
        run = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        )
        assert run.stdout.endswith(
            f"which is not installed; run: pip install 'fsckit[{name}]'\n"
        ), run.stderr
        assert len(run.stdout.splitlines()) == 1


def test_a_missing_java_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("pyspark")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(FsckitError, match="default-jre-headless"):
        create_executor("spark")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dask",), "unknown executor 'dask'; choose local, ray or spark"),
        (("local", -1), "`workers` -1: executor 'local' needs at least 0"),
        (("ray", 0), "`workers` 0: executor 'ray' needs at least 1"),
        (("local", 1, "10.0.0.1:6379"), "`address` needs a cluster; add `executor` ray or spark"),
        (("ray", None, "10.0.0.1"), "`address` 10.0.0.1: expected HOST:PORT, such as"),
        (
            ("ray", None, "ray://10.0.0.1:10001"),
            "`address` ray://10.0.0.1:10001: expected HOST:PORT",
        ),
        (("spark", None, "10.0.0.1:7077"), "`address` 10.0.0.1:7077: expected a Spark URL"),
    ],
)
def test_unsupported_arguments_are_rejected(arguments: tuple[object, ...], message: str) -> None:
    require(str(arguments[0]) if arguments[0] in PACKAGES else "local")
    with pytest.raises(FsckitError) as error:
        create_executor(*arguments)  # type: ignore[arg-type]
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("own", ["ray", "spark"])
def test_an_unreachable_cluster_is_named(own: str, tmp_path: Path) -> None:
    require(own)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # without listening
        address = f"{'spark://' if own == 'spark' else ''}127.0.0.1:{taken.getsockname()[1]}"
        _, err = driver(own, tmp_path, "Square", "1", address).communicate(timeout=60)
    assert err == (
        f"`address` {address}: cannot be reached (Connection refused); check that the cluster is "
        f"running\n"
    )


def test_a_server_that_is_not_ray_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    require("ray")
    engine = importlib.import_module("fscdata.executors.ray")
    monkeypatch.setattr(engine, "CONNECT_TIMEOUT", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(FsckitError, match=f"{address}: no answer from Ray .*; use the address"):
            engine._connect(None, address)


@pytest.mark.parametrize("name", ["ray", "spark"], indirect=True)
def test_an_existing_session_is_not_replaced(name: str, tmp_path: Path) -> None:
    address = {"ray": "127.0.0.1:1", "spark": "spark://127.0.0.1:1"}[name]
    with pytest.raises(FsckitError, match=f"`address` {address}: this process has a "):
        next(create_executor(name, None, address).run(Square(str(tmp_path)), [1]))


def test_usable_cpus_respect_the_affinity() -> None:
    assert 1 <= usable_cpus() <= len(os.sched_getaffinity(0))
