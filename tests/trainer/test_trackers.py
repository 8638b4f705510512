"""The trackers' records, read back from their own files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fsctrain.config import Config, dump_config
from fsctrain.trackers import Record, open_trackers

TRAINING: list[Record] = [
    {"step": step, "loss": 3.0 - step, "grad_norm": None, "prefers_true": {"a": 0.5, "b": None}}
    for step in (1, 2, 3)
]
SCORES: Record = {"step": 2, "scores": {"choice/a": 0.75, "score": 0.25}}


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The scalars that TensorBoard reads from its event files."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_writes_nothing_without_trackers(config: Config, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with open_trackers(config, folder) as track:
        track(SCORES)
    assert list(folder.iterdir()) == []


def test_tensorboard_gets_the_records(config: Config, tmp_path: Path) -> None:
    """A resumed run replaces the later steps of the killed one."""
    pytest.importorskip("tensorboard")
    settings = config.model_copy(update={"tensorboard": True})
    with open_trackers(settings, tmp_path) as track:
        for record in (*TRAINING, SCORES):
            track(record)
    assert scalars(tmp_path) == {
        "loss": [(1, 2.0), (2, 1.0), (3, 0.0)],
        "prefers_true/a": [(1, 0.5), (2, 0.5), (3, 0.5)],
        "scores/choice/a": [(2, 0.75)],
        "scores/score": [(2, 0.25)],
    }
    with open_trackers(settings, tmp_path, resumed_at=2) as track:
        track(TRAINING[2] | {"loss": 7.0})
    assert scalars(tmp_path)["loss"] == [(1, 2.0), (2, 1.0), (3, 7.0)]


@pytest.mark.slow
def test_wandb_gets_the_records(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline, they are in the run's folder; a resumed run keeps its id."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    settings = config.model_copy(update={"wandb": True})
    for records, resumed_at in ((TRAINING[:2], None), (TRAINING[2:], 2)):
        with open_trackers(settings, tmp_path, resumed_at) as track:
            for record in records:
                track(record)
    run_id = (tmp_path / "wandb.id").read_text()
    files = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert files and {path.stem for path in files} == {f"run-{run_id}"}
    logged = b"".join(path.read_bytes() for path in files)
    for word in (b"prefers_true/a", b"loss", b"local_weight"):
        assert word in logged


@pytest.mark.slow
def test_a_refused_wandb_login_leaves_no_folder(config: Config, tmp_path: Path) -> None:
    """The same run then starts without the tracker."""
    pytest.importorskip("wandb")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(dump_config(config))
    command = [sys.executable, "-m", "fsctrain", "run", "--recipe", str(recipe)]
    done = subprocess.run(
        [*command, "--wandb"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    sentence = "Weights & Biases refused the run ("
    assert f"--wandb: {sentence}" in done.stderr or f"`wandb`: {sentence}" in done.stderr
    assert "run 'wandb login', or set WANDB_MODE=offline" in done.stderr
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("extra", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")]
)
def test_names_the_missing_extra(
    extra: str, module: str, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with (
        pytest.raises(FsckitError, match=rf"`{extra}` needs .* pip install 'fsckit\[{extra}\]'"),
        open_trackers(config.model_copy(update={extra: True}), tmp_path),
    ):
        pass
