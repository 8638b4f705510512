"""Finished runs on disk, with a model of a few kilobytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fsctrain.checkpoint import save_checkpoint
from fsctrain.config import Config, dump_config
from fsctrain.model import Clip, create_model
from fsctrain.model.lora import apply_lora, lora_updates

RECORDS = [
    {"step": 2, "scores": {"score": 0.25}},
    {"step": 4, "epoch": 0, "loss": 1.5, "prefers_true": {"colour": 0.75, "shape": None}},
    {"step": 4, "scores": {"score": 0.5, "choice|colour": 0.625}},
]


@pytest.fixture
def small_model(tiny_model: str, tmp_path: Path) -> str:
    """A small vocabulary keeps checkpoints small; QuickGELU must survive every step."""
    config = json.loads(Path(tiny_model).read_text()) | {"quick_gelu": True}
    config["text_cfg"]["vocab_size"] = 64
    path = tmp_path / "small.json"
    path.write_text(json.dumps(config))
    return str(path)


@pytest.fixture
def small_config(small_model: str, tmp_path: Path) -> Config:
    return Config(
        data=("/private/home/coco", "s3://bucket/flickr"),
        recipe="fsc-clip",
        model=small_model,
        pretrained="none",
        loss="fsc-clip",
        styles=("negclip", "shape"),
        steps=4,
        out=tmp_path / "runs",
        name="test",
        seed=7,
    )


def perturb(clip: Clip) -> None:
    """Change the weights, as training does."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        trained = [update.B for update in lora_updates(clip.model).values()]
        for parameter in trained or clip.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)


@pytest.fixture
def make_run() -> Callable[[Config], tuple[Path, Clip]]:
    """A function that makes a finished run and returns its folder and its final model."""

    def make(config: Config) -> tuple[Path, Clip]:
        folder = config.out / config.name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(f"# fsctrain run\n{dump_config(config)}")
        (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in RECORDS))
        torch.manual_seed(config.seed)
        clip = create_model(config.model, config.pretrained)
        if config.lora_rank:
            apply_lora(clip.model, config.lora_rank, config.lora_alpha, config.lora_conv)
        perturb(clip)
        save_checkpoint(folder / "checkpoint", clip, pretrained=config.pretrained, seed=config.seed)
        return folder, clip

    return make


@pytest.fixture
def lora_config(small_config: Config) -> Config:
    return small_config.model_copy(update={"lora_rank": 2, "lora_alpha": 1.0, "name": "lora"})


@pytest.fixture
def pretrained(small_config: Config, tmp_path: Path) -> Path:
    """A weights file that no seed reproduces."""
    clip = create_model(small_config.model, "none")
    perturb(clip)
    return save_checkpoint(tmp_path / "pretrained", clip)
