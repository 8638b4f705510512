"""Scores while a run goes on, and runs that end by them."""

from __future__ import annotations

import json

import torch
from safetensors.torch import load_file

from fsctrain.config import Config
from fsctrain.model import create_model
from fsctrain.train import Run, train


def scores(run: Run) -> dict[int, dict[str, float]]:
    records = map(json.loads, (run.folder / "metrics.jsonl").read_text().splitlines())
    return {record["step"]: record["scores"] for record in records if "scores" in record}


def test_a_validation_set(config: Config) -> None:
    """It is scored once an epoch, before the first step and after the last."""
    validated = config.model_copy(update={"validation": config.data[0], "steps": 7})
    found = scores(train(validated))
    assert list(found) == [0, 3, 6, 7]
    for of_step in found.values():
        assert {"score", "image_to_text_recall@1", "choice/colour"} <= of_step.keys()
        assert all(0 <= score <= 1 for score in of_step.values())
    often = validated.model_copy(update={"validate_every": 2, "name": "often"})
    assert list(scores(train(often))) == [0, 2, 4, 6, 7]


def test_early_stopping_keeps_the_best(config: Config) -> None:
    """A rate of next to nothing never leads to a better score than the first."""
    settings = {"validation": config.data[0], "validate_every": 2, "patience": 2, "lr": 1e-12}
    run = train(config.model_copy(update={**settings, "steps": 20}))
    assert list(scores(run)) == [0, 2, 4]
    torch.manual_seed(config.seed)
    first = create_model(config.model, "none").model.state_dict()
    assert all(torch.equal(t, first[name]) for name, t in load_file(run.checkpoint).items())
    assert {path.name for path in run.folder.iterdir()} == {
        "checkpoint", "config.yaml", "metrics.jsonl"
    }  # fmt: skip


def test_the_best_may_be_the_last(config: Config) -> None:
    settings = {"validation": config.data[0], "validate_every": 20, "patience": 3, "lr": 2e-3}
    run = train(config.model_copy(update={**settings, "steps": 60, "batch_size": 12}))
    found = scores(run)
    best = max(found, key=lambda step: (found[step]["score"], -step))
    assert best > 0 and found[best]["score"] > found[0]["score"]
    model = create_model(config.model, str(run.checkpoint)).model
    assert model.logit_scale.item() != create_model(config.model, "none").model.logit_scale.item()
