"""Settings that change memory or what is trained, but not the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fscdata.base.errors import FsckitError
from fsctrain.config import Config
from fsctrain.distributed import Ranks
from fsctrain.forward import forward
from fsctrain.losses import GlobalBatch, load_loss
from fsctrain.model import create_model
from fsctrain.setup import prepare
from fsctrain.step import _concatenate, _rows
from fsctrain.train import train

HERE = Ranks(), torch.device("cpu")


def gradients(config: Config, **changed: Any) -> dict[str, Tensor]:
    training = prepare(config.model_copy(update=changed), Path("nowhere"), *HERE)
    training.clip.model.train()
    (batch,) = training.source.batches(0, 1)
    torch.manual_seed(7)
    training.gradients(batch, [len(batch)])
    parameters = training.clip.model.named_parameters()
    return {name: p.grad for name, p in parameters if p.grad is not None}


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, right in expected.items():
        apart = (found[name] - right).abs().max().item()
        assert apart <= 1e-4 * right.abs().max().item() + 1e-7, (name, apart)


def test_gradient_checkpointing_changes_nothing(config: Config) -> None:
    plain = gradients(config)
    assert_close(gradients(config, grad_checkpointing=True), plain)
    both = gradients(config, grad_checkpointing=True, micro_batch_size=3)
    assert_close(both, plain)


def test_both_passes_of_a_micro_batch_drop_the_same_patches(config: Config, tmp_path: Path) -> None:
    """One pass caches the features, the other computes their gradient."""
    model = json.loads(Path(config.model).read_text())
    model["vision_cfg"]["patch_dropout"] = 0.5
    path = tmp_path / "dropping.json"
    path.write_text(json.dumps(model))
    kept = {"model": str(path), "local_weight": 0.0, "batch_size": 4}
    training = prepare(config.model_copy(update=kept), Path("nowhere"), *HERE)
    training.clip.model.train()
    (batch,) = training.source.batches(0, 1)
    found = gradients(config, **kept, micro_batch_size=2)
    # The same loss by plain autograd, on the features of two halves.
    torch.manual_seed(7)
    halves = [forward(training.clip.model, _rows(batch, i, i + 2), local=False) for i in (0, 2)]
    features = _concatenate(halves)
    load_loss(config)(features, GlobalBatch.single_rank(features), training.gradients.config)[
        "loss"
    ].backward()
    parameters = training.clip.model.named_parameters()
    assert_close(found, {name: p.grad for name, p in parameters if p.grad is not None})


def test_lora_trains_only_its_matrices(config: Config) -> None:
    run = train(config.model_copy(update={"lora_rank": 2, "steps": 3}))
    assert run.steps == 3
    names = gradients(config, lora_rank=2).keys()
    assert names and all("parametrizations" in name for name in names)


@pytest.mark.parametrize("setting", ["freeze_image", "freeze_text"])
def test_a_frozen_tower_keeps_its_weights(setting: str, config: Config) -> None:
    torch.manual_seed(config.seed)
    before = create_model(config.model, "none").model.state_dict()
    run = train(config.model_copy(update={setting: "all", "micro_batch_size": 2}))
    after = load_file(run.checkpoint)
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    towers = {"image" if name.startswith("visual.") else "text" for name in moved - {"logit_scale"}}
    assert towers == {"image", "text"} - {setting.removeprefix("freeze_")}
    assert "logit_scale" in moved


@pytest.mark.slow
def test_trains_in_fp16(config: Config) -> None:
    """The scaler skips steps until its scale is small enough."""
    run = train(config.model_copy(update={"precision": "fp16", "steps": 12}))
    plain = train(config.model_copy(update={"steps": 12, "name": "plain"}))
    one, other = (
        [json.loads(line)["loss"] for line in (r.folder / "metrics.jsonl").read_text().splitlines()]
        for r in (run, plain)
    )
    assert one[0] == pytest.approx(other[0], rel=0.02) and one[0] != other[0]
    assert one[-1] < one[0]


def test_refuses_to_split_a_batch_with_batch_norms(config: Config, tmp_path: Path) -> None:
    model = json.loads(Path(config.model).read_text())
    model["vision_cfg"] = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8}
    path = tmp_path / "resnet.json"
    path.write_text(json.dumps(model))
    resnet = config.model_copy(update={"model": str(path), "local_weight": 0.0, "steps": 1})
    with pytest.raises(FsckitError, match=r"uses batch norm.*`micro_batch_size`"):
        train(resnet.model_copy(update={"micro_batch_size": 2}))
    assert train(resnet).steps == 1
