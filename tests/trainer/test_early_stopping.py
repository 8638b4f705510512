"""Early stopping: when it ends a run, and which weights it keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fsctrain.config import Config
from fsctrain.early_stopping import EarlyStopping
from fsctrain.model import create_model
from fsctrain.train import TrainResult, train


def scores(run: TrainResult) -> dict[int, dict[str, float]]:
    records = map(json.loads, (run.folder / "metrics.jsonl").read_text().splitlines())
    return {record["step"]: record["scores"] for record in records if "scores" in record}


def test_keeps_the_best_weights(config: Config) -> None:
    """With a tiny learning rate the first score stays the best."""
    settings = {"validation": config.data[0], "validate_every": 2, "patience": 2, "lr": 1e-12}
    run = train(config.model_copy(update={**settings, "steps": 20}))
    assert list(scores(run)) == [0, 2, 4]
    torch.manual_seed(config.seed)
    first = create_model(config.model, "none").model.state_dict()
    assert all(torch.equal(t, first[name]) for name, t in load_file(run.checkpoint).items())
    assert {path.name for path in run.folder.iterdir()} == {
        "checkpoint", "config.yaml", "metrics.jsonl"
    }  # fmt: skip


@pytest.mark.slow
def test_keeps_the_last_weights_if_they_are_the_best(config: Config) -> None:
    settings = {"validation": config.data[0], "validate_every": 20, "patience": 3, "lr": 2e-3}
    run = train(config.model_copy(update={**settings, "steps": 60, "batch_size": 12}))
    found = scores(run)
    best = max(found, key=lambda step: (found[step]["score"], -step))
    assert best > 0 and found[best]["score"] > found[0]["score"]
    model = create_model(config.model, str(run.checkpoint)).model
    assert model.logit_scale.item() != create_model(config.model, "none").model.logit_scale.item()


def test_stops_after_its_patience(tmp_path: Path) -> None:
    stopping = EarlyStopping(2, tmp_path)
    seen = [
        (stopping.add(step, score), stopping.stops)
        for step, score in enumerate((0.5, 0.5, 0.6, 0.4))
    ]
    assert seen == [(True, False), (False, False), (True, False), (False, False)]
    resumed = EarlyStopping(2, tmp_path)
    resumed.load_state_dict(stopping.state_dict())
    assert (
        not resumed.add(4, 0.6) and resumed.stops and (resumed.best, resumed.best_step) == (0.6, 2)
    )
    endless = EarlyStopping(None, tmp_path)
    assert [endless.add(step, 0.0) for step in range(5)] == [
        True,
        *[False] * 4,
    ] and not endless.stops
