"""Runs that are killed, stopped and resumed, in their own processes with real signals."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fscdata.base.errors import FsckitError
from fsctrain.checkpoint import save_checkpoint
from fsctrain.config import Config
from fsctrain.data import WorkerDiedError
from fsctrain.model import create_model
from fsctrain.saved_states import saved_states
from fsctrain.scoring import ValidationScorer
from fsctrain.train import train
from support import SUPPORT
from support.warm import WarmProcess, WarmRanks

pytestmark = pytest.mark.slow

STEPS = 40
KILLS = 5
CRASH_AT = SUPPORT / "crash_at.py"
POISON = SUPPORT / "rank_poison.py"


@pytest.fixture
def long(config: Config, samples: list, make_data: Callable[..., Path]) -> Config:
    """A run with three batches per epoch and a bad image."""
    samples[7].image = b"<html>"
    make_data(samples)
    changes = {"steps": STEPS, "batch_size": 4, "checkpoint_every": 3, "warmup": 5, "name": "long"}
    return config.model_copy(update=changes)


def words(config: Config) -> list[str]:
    """The arguments of `fsctrain`."""
    path = config.out.parent / f"{config.name}.yaml"
    values = config.model_dump(mode="json", exclude={"recipe"})
    path.write_text(json.dumps(values))
    return ["run", "--recipe", str(path), "--resume"]


def start(config: Config) -> WarmProcess:
    """Start `fsctrain run`."""
    return WarmProcess(["-m", "fsctrain", *words(config)])


def start_ranks(size: int, config: Config) -> WarmRanks:
    """Start `fsctrain run` on several ranks."""
    return WarmRanks(size, ["-m", "fsctrain", *words(config)])


def torchrun(config: Config, *options: str) -> subprocess.Popen[str]:
    """Start `torchrun OPTIONS -m fsctrain run` on two ranks."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    launcher += ["--rdzv-endpoint", "127.0.0.1:0", *options]
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "fsctrain", *words(config)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ,
        start_new_session=True,
    )  # fmt: skip


def steps_done(config: Config) -> int:
    path = config.out / config.name / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def until(
    condition: Callable[[], object], process: WarmProcess | WarmRanks | subprocess.Popen[str]
) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def weights(config: Config) -> dict[str, Tensor]:
    return load_file(config.out / config.name / "checkpoint" / "open_clip_model.safetensors")


def lines(config: Config) -> list[dict[str, Any]]:
    """The records of metrics.jsonl, without timings."""
    names = ("step", "epoch", "loss", "lr", "grad_norm", "prefers_true")
    path = config.out / config.name / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: record[name] for name in names} for record in records]


def named(config: Config, name: str) -> Config:
    return config.model_copy(update={"name": name})


def assert_same_run(one: Config, other: Config) -> None:
    left, right = weights(one), weights(other)
    assert left.keys() == right.keys()
    assert all(torch.equal(tensor, right[name]) for name, tensor in left.items())
    assert lines(one) == lines(other)
    bad = [(c.out / c.name / "bad_images.jsonl").read_text() for c in (one, other)]
    assert bad[0] == bad[1] and bad[0].count("\n") == 1
    folder = {path.name for path in (one.out / one.name).iterdir()}
    assert folder == {"config.yaml", "metrics.jsonl", "bad_images.jsonl", "checkpoint"}


def test_a_run_killed_at_five_random_steps_equals_an_uninterrupted_one(long: Config) -> None:
    """After kill -9 the weights are the same, bit for bit."""
    train(named(long, "undisturbed"))
    seed = time.time_ns()
    print(f"seed {seed}")  # shown if the test fails
    chosen = random.Random(seed)
    folder = long.out / long.name
    for least in sorted(chosen.sample(range(1, STEPS - 4), KILLS)):
        process = start(long)
        until(lambda least=least: steps_done(long) >= least, process)
        process.kill()
        process.communicate()
        assert not (folder / "checkpoint").exists()
        assert len(saved_states(folder)) <= 2
    process = start(long)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "resumed at step" in out
    assert_same_run(long, named(long, "undisturbed"))
    done = start(long)
    out, _ = done.communicate(timeout=120)
    assert done.returncode == 0 and "this run is already finished" in out


def test_a_run_killed_before_any_change_to_its_files_can_be_resumed(long: Config) -> None:
    """From the first folder to the last rename, each change being a crash point."""
    config = long.model_copy(update={"steps": 2, "warmup": 1, "checkpoint_every": 1})
    train(named(config, "undisturbed"))
    for point in range(1, 100):
        crashing = named(config, f"crash-{point}")
        process = WarmProcess([str(CRASH_AT), str(point), str(config.out), *words(crashing)])
        process.communicate(timeout=60)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        train(crashing, resume=True)
        assert_same_run(crashing, named(config, "undisturbed"))
    assert 10 < point < 99


@pytest.mark.parametrize("left", [[], [".config.yaml.1-ab.tmp"]])
def test_a_folder_that_holds_no_run_is_used(left: list[str], long: Config) -> None:
    folder = long.out / long.name
    folder.mkdir(parents=True)
    for name in left:
        (folder / name).write_text("x")
    assert train(long.model_copy(update={"steps": 1, "warmup": 0})).steps == 1
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_a_run_after_its_step(
    number: signal.Signals, code: int, long: Config
) -> None:
    """The whole process group gets it, including the workers that read images."""
    config = long.model_copy(update={"checkpoint_every": None, "workers": 2})
    train(named(config, "undisturbed"))
    process = start(config)
    until(lambda: steps_done(config) >= 5, process)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "stopped; rerun the same command with --resume to continue" in out
    assert err == ""
    (state,) = saved_states(config.out / config.name)
    assert int(state.name.removeprefix("step-")) == steps_done(config), "no step was lost"
    again = start(config)
    _, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert_same_run(config, named(config, "undisturbed"))


def workers_of(process: WarmProcess) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in children.read_text().split()]


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_killed_loader_worker_ends_all_ranks_and_loses_no_step(ranks: int, long: Config) -> None:
    """A state is written at every step, so that the kill often comes while one is written."""
    config = long.model_copy(update={"checkpoint_every": 1, "workers": 2})
    train(named(config, "undisturbed"))
    process = start(config) if ranks == 1 else start_ranks(ranks, config)
    last = process if isinstance(process, WarmProcess) else process.ranks[-1]
    until(lambda: steps_done(config) >= 5, process)
    os.kill(random.choice(workers_of(last)), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    codes = [process.returncode] if ranks == 1 else [rank.returncode for rank in process.ranks]
    assert codes == [1] * ranks, err
    (state,) = saved_states(config.out / config.name)
    assert int(state.name.removeprefix("step-")) == steps_done(config), "no step was lost"
    sentences = {line.partition(": ")[2] for line in err.splitlines()}
    (sentence,) = sentences
    assert err.count("\n") == ranks
    cause = "a data loader worker was killed by SIGKILL, usually because memory ran out"
    assert sentence.startswith(f"{cause}; the last saved state is {state}; continue with ")
    if ranks == 1:
        resume = sentence.split("'fsctrain ")[1].rstrip("'").split()
        again = WarmProcess(["-m", "fsctrain", *resume])
        _, err = again.communicate(timeout=120)
        assert again.returncode == 0, err
        assert_same_run(config, named(config, "undisturbed"))
    else:
        assert sentence.endswith("continue with the same command and --resume")


def test_a_worker_killed_during_the_last_validation_loses_no_step(
    long: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = long.model_copy(update={"steps": 4, "validation": copied(long), "validate_every": 100})
    score = ValidationScorer.__call__

    def killed(scorer: ValidationScorer, model: Any, step: int) -> dict[str, float]:
        if step == 4:
            raise WorkerDiedError("a data loader worker was killed by SIGKILL")
        return score(scorer, model, step)

    monkeypatch.setattr(ValidationScorer, "__call__", killed)
    with pytest.raises(FsckitError, match="step-00000004; continue with 'fsctrain run"):
        train(config)
    monkeypatch.undo()
    assert train(config, resume=True).steps == 4


def assert_near(one: Config, other: Config) -> None:
    """Equal up to the rounding of sums in a different order."""
    left, right = weights(one), weights(other)
    for name in left:
        one_tensor, other_tensor = left[name], right[name]
        if name.endswith("in_proj_bias"):
            # A bias of the keys adds one number to all of a query's scores, so its gradient is zero
            # but for rounding errors, which AdamW scales up to full steps: compare the others.
            (q, _, v), (other_q, _, other_v) = one_tensor.chunk(3), other_tensor.chunk(3)
            one_tensor, other_tensor = torch.cat([q, v]), torch.cat([other_q, other_v])
        apart = (one_tensor - other_tensor).norm()
        assert apart <= 2e-3 * other_tensor.norm() + 1e-4, name
    bad = [(c.out / c.name / "bad_images.jsonl").read_text() for c in (one, other)]
    assert bad[0] == bad[1]


def test_resumes_on_another_number_of_ranks(long: Config) -> None:
    train(named(long, "undisturbed"))
    process = start_ranks(2, long)
    until(lambda: steps_done(long) >= 20, process)
    process.terminate()
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert len(saved_states(long.out / long.name)) == 1, err
    shutil.copytree(long.out / long.name, long.out / "four")
    train(long, resume=True)
    assert_near(long, named(long, "undisturbed"))
    four = start_ranks(4, named(long, "four"))
    _, err = four.communicate(timeout=200)
    assert four.returncode == 0, err
    assert_near(named(long, "four"), named(long, "undisturbed"))


def test_resumes_after_a_lost_rank(long: Config) -> None:
    """torchrun restarts all ranks, and they resume from the last state."""
    train(named(long, "undisturbed"))
    process = torchrun(long, "--max-restarts", "3")
    until(lambda: steps_done(long) >= 10, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "resumed at step" in out
    assert "Error: [" not in err, "a message of gloo"
    assert [line["step"] for line in lines(long)] == list(range(1, STEPS + 1))
    assert_near(long, named(long, "undisturbed"))


def test_nan_on_one_rank_stops_all(long: Config) -> None:
    """The error names the rows that caused it and the last good state."""
    config = long.model_copy(update={"checkpoint_every": 1})
    ranks = WarmRanks(2, [str(POISON), "20", *words(config)])
    _, err = ranks.communicate(timeout=120)
    assert [rank.returncode for rank in ranks.ranks] == [1, 1], err
    sentences = [line.partition(": ")[2] for line in err.splitlines() if "the loss is nan" in line]
    assert len(sentences) == 2, err
    (sentence,) = set(sentences)
    keys = sentence.split("with samples ")[1].split(";")[0].split(", ")
    assert keys == ["20"]
    states = saved_states(config.out / config.name)
    assert len(states) <= 1
    assert not states or f"the last good state is {states[0]}" in sentence


def test_refuses_to_resume_with_other_settings(long: Config) -> None:
    train(long)
    with pytest.raises(FsckitError, match=r"config.yaml: this run has lr 0.001, not 0.1.*`lr`"):
        train(long.model_copy(update={"lr": 0.1}), resume=True)
    assert train(long.model_copy(update={"workers": 1}), resume=True).steps == STEPS
    with pytest.raises(
        FsckitError, match=rf"finished with steps {STEPS}; .*set `pretrained` to {long.out}/\S+ and"
    ):
        train(long.model_copy(update={"steps": STEPS + 2}), resume=True)
    further = long.model_copy(update={"pretrained": str(long.out / long.name), "name": "further"})
    assert train(further).steps == STEPS


def test_refuses_a_damaged_state(long: Config) -> None:
    folder = long.out / long.name
    state = folder / "state" / "step-00000003"
    process = start(long)
    until(lambda: saved_states(folder), process)
    process.kill()
    process.communicate()
    state = saved_states(folder)[-1]
    (state / "state.safetensors").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(FsckitError, match=f"{state}: not a saved state of this run"):
        train(long, resume=True)


def test_a_stream_resumes_only_with_the_same_workers_and_ranks(long: Config) -> None:
    """Its order depends on both; with the same numbers, the resume is exact."""
    streamed = long.model_copy(update={"stream": True, "workers": 1})
    train(named(streamed, "undisturbed"))
    process = start(streamed)
    until(lambda: steps_done(streamed) >= 10, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    with pytest.raises(FsckitError, match=r"config.yaml: this run has workers 1, not 0"):
        train(streamed.model_copy(update={"workers": 0}), resume=True)
    two = start_ranks(2, streamed)
    _, err = two.communicate(timeout=120)
    assert two.returncode != 0
    assert "must resume on the same number of ranks, 1, not 2" in err
    train(streamed, resume=True)
    assert_same_run(streamed, named(streamed, "undisturbed"))


def stopped_at(step: int, config: Config) -> None:
    """Run in this process, and fail after a step."""

    def end(record: dict[str, Any], steps: int) -> None:
        if record["step"] == step:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(config, resume=True, watch=end)


def copied(config: Config) -> str:
    """A copy of the data set: a run must not validate on its training data."""
    return str(shutil.copytree(config.data[0], config.out.parent / "validation"))


def test_the_best_weights_survive_a_resume(long: Config) -> None:
    """The run is stopped several times between a best score and the next state."""
    settings = {"validation": copied(long), "validate_every": 2, "patience": 100}
    config = long.model_copy(update={**settings, "checkpoint_every": 5, "lr": 2e-4})
    train(named(config, "undisturbed"))
    for step in (3, 9, 14, 31):
        stopped_at(step, config)
    train(config, resume=True)
    records = [
        (config.out / name / "metrics.jsonl").read_text().splitlines()
        for name in ("long", "undisturbed")
    ]
    scored = [[line for line in lines if "scores" in line] for lines in records]
    assert scored[0] == scored[1] and len(scored[0]) == STEPS // 2 + 1
    best = max(map(json.loads, scored[0]), key=lambda r: (r["scores"]["score"], -r["step"]))
    assert 0 < best["step"] < STEPS, "else the test shows nothing"
    left, right = weights(config), weights(named(config, "undisturbed"))
    assert all(torch.equal(tensor, right[name]) for name, tensor in left.items())
    assert not list((config.out / "long").glob("best-*"))


def test_dropout_resumes_exactly(long: Config, tmp_path: Path) -> None:
    model = json.loads(Path(long.model).read_text())
    model["vision_cfg"]["patch_dropout"] = 0.5
    path = tmp_path / "dropping.json"
    path.write_text(json.dumps(model))
    for workers in (0, 1):
        changes = {"model": str(path), "local_weight": 0.0, "steps": 8, "workers": workers}
        config = named(long, f"workers-{workers}").model_copy(update=changes)
        train(named(config, f"undisturbed-{workers}"))
        stopped_at(5, config)
        train(config, resume=True)
        assert_same_run(config, named(config, f"undisturbed-{workers}"))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("changed", ["caption", "negatives"])
def test_refuses_a_state_of_other_data(
    stream: bool, changed: str, long: Config, samples: list, make_data
) -> None:
    long = long.model_copy(update={"stream": stream})
    stopped_at(5, long)
    if changed == "caption":
        samples[3].captions = ["an image of something else"]
    else:
        samples[4].negatives["colour"][0].reverse()
    make_data(samples, seed=int(changed == "negatives"))
    with pytest.raises(
        FsckitError, match="step-00000003: the data changed after this state was saved"
    ):
        train(long, resume=True)


def test_refuses_a_state_of_a_loss_that_has_changed(long: Config, tmp_path: Path) -> None:
    loss = tmp_path / "mine.py"
    loss.write_text("from fsctrain.losses.negclip import USES, compute\n")
    long = long.model_copy(update={"loss": str(loss), "global_weight": 0.0, "local_weight": 0.0})
    stopped_at(5, long)
    loss.write_text(loss.read_text() + "# changed\n")
    with pytest.raises(FsckitError, match="the loss changed after this state was saved"):
        train(long, resume=True)


def test_refuses_a_state_of_other_validation_data(long: Config, samples: list, make_data) -> None:
    folder = Path(copied(long))
    long = long.model_copy(update={"validation": str(folder), "validate_every": 10})
    stopped_at(5, long)
    shutil.rmtree(folder)
    caption, samples[3].captions = samples[3].captions, ["an image of something else"]
    shutil.copytree(make_data(samples), folder)
    samples[3].captions = caption
    make_data(samples)
    with pytest.raises(FsckitError, match="the validation data changed after this state was saved"):
        train(long, resume=True)


def test_refuses_a_state_of_other_initial_weights(long: Config, tmp_path: Path) -> None:
    base = tmp_path / "base.safetensors"
    for seed in (0, 1):
        torch.manual_seed(seed)
        weights = save_checkpoint(tmp_path / str(seed), create_model(long.model, "none"))
        base.write_bytes(weights.read_bytes())
        long = long.model_copy(update={"pretrained": str(base), "lora_rank": 2})
        if seed == 0:
            stopped_at(5, long)
    with pytest.raises(FsckitError, match="the initial weights changed after this state was saved"):
        train(long, resume=True)


def test_refuses_a_second_process_in_a_run_s_folder(long: Config) -> None:
    process = start(long)
    until(lambda: steps_done(long) >= 1, process)
    with pytest.raises(FsckitError, match="runs/long: another process is using it"):
        train(long, resume=True)
    process.kill()
    process.communicate()
    assert train(long, resume=True).steps == STEPS


def test_ranks_with_different_micro_batches_stop_early_together(long: Config) -> None:
    """One rank has two of five rows; the other has three and encodes them in two parts."""
    settings = {"batch_size": 5, "micro_batch_size": 2, "steps": 12, "checkpoint_every": None}
    config = long.model_copy(update={**settings, "validation": copied(long), "validate_every": 3})
    config = config.model_copy(update={"patience": 2, "lr": 1e-7})
    train(named(config, "undisturbed"))
    process = start_ranks(2, config)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert_near(config, named(config, "undisturbed"))


def test_an_error_on_the_first_rank_ends_all_ranks(long: Config) -> None:
    """Only the first rank reads the validation set; the others do not hang."""
    process = start_ranks(2, long.model_copy(update={"validation": "nowhere"}))
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "fsctrain: nowhere: no such folder" in err
    assert "Traceback" not in err
