"""The recipes against the published table, typed here once more."""

from __future__ import annotations

from pathlib import Path

import pytest
from open_clip.pretrained import get_pretrained_cfg
from typer.testing import CliRunner

import fsctrain
from fsctrain.cli import app
from fsctrain.config import load_config, recipe_path, recipes
from fsctrain.losses import load_loss

L14 = "ViT-L-14"
DATACOMP = "datacomp_xl_s13b_b90k"
# name, data, model, weights, batch, rate, weight of the global and of the local loss, LoRA
PUBLISHED = """
fsc-clip                               coco            ViT-B-32 openai   256 5e-6 0.5 0.2 -
fsc-clip-lora                          coco            ViT-B-32 openai   256 5e-5 0.5 0.2 4
fsc-clip-cc3m-100k                     cc3m-100k       ViT-B-32 openai   256 5e-6 1.0 0.2 -
fsc-clip-lora-cc3m-100k                cc3m-100k       ViT-B-32 openai   256 5e-5 1.0 0.2 4
fsc-clip-laion-coco-100k               laion-coco-100k ViT-B-32 openai   256 5e-6 0.5 0.2 -
fsc-clip-lora-laion-coco-100k          laion-coco-100k ViT-B-32 openai   256 5e-5 0.5 0.2 4
fsc-clip-laion-coco-100k-vit-b-16      laion-coco-100k ViT-B-16 openai   128 5e-6 0.5 0.5 -
fsc-clip-lora-laion-coco-100k-vit-b-16 laion-coco-100k ViT-B-16 openai   128 5e-5 0.5 0.5 4
fsc-clip-laion-coco-100k-vit-l-14      laion-coco-100k ViT-L-14 openai   256 5e-6 0.5 0.5 -
fsc-clip-lora-laion-coco-100k-vit-l-14 laion-coco-100k ViT-L-14 openai   256 5e-5 0.5 0.5 4
fsc-clip-laion-coco-100k-datacomp      laion-coco-100k ViT-B-32 datacomp 256 5e-6 0.5 0.2 -
fsc-clip-lora-laion-coco-100k-datacomp laion-coco-100k ViT-B-32 datacomp 256 5e-5 0.5 0.2 4
negclip                                coco            ViT-B-32 openai   256 1e-6 0.0 0.0 -
clip                                   coco            ViT-B-32 openai   256 1e-6 0.0 0.0 -
clip-cc3m-100k                         cc3m-100k       ViT-B-32 openai   256 1e-6 0.0 0.0 -
clip-laion-coco-100k                   laion-coco-100k ViT-B-32 openai   256 1e-6 0.0 0.0 -
"""
ROWS = [line.split() for line in PUBLISHED.strip().splitlines()]
STYLES = {"fsc-clip": ("negclip", "replace", "shuffle-2"), "negclip": ("negclip",), "clip": ()}


def test_all_of_them() -> None:
    assert recipes() == sorted(row[0] for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_published_settings(row: list[str]) -> None:
    name, _, model, weights, batch, lr, global_weight, local_weight, lora = row
    config = load_config(name, {"data": "x"})
    load_loss(config)
    assert (config.name, config.recipe, config.model) == (name, name, model)
    assert config.pretrained == (DATACOMP if weights == "datacomp" else weights)
    known = get_pretrained_cfg(model, config.pretrained)
    assert bool(known.get("quick_gelu")) == (weights == "openai")  # its model has the right one
    assert (config.batch_size, config.lr) == (int(batch), float(lr))
    losses = (config.global_weight, config.local_weight)
    assert losses == (float(global_weight), float(local_weight))
    assert config.lora_rank == (None if lora == "-" else int(lora)) and config.lora_alpha == 1
    loss = next(loss for loss in STYLES if name.startswith(loss))
    assert (config.loss, config.styles) == (loss, STYLES[loss])
    assert (config.focal_gamma, config.label_smoothing) == (2, 0.02)
    assert (config.epochs, config.schedule, config.warmup) == (5, "cosine", 50)
    assert (config.betas, config.eps, config.weight_decay) == ((0.9, 0.98), 1e-6, 0.1)
    assert (config.crop_scale, config.precision) == ((0.9, 1), "auto")
    assert config.grad_clip_norm is None and config.steps is None


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_launch_command(row: list[str]) -> None:
    """On four GPUs where the published run was."""
    name, data, model = row[:3]
    command = "torchrun --nproc-per-node 4 -m fsctrain run" if model == L14 else "fsctrain run"
    first, second, *_ = recipe_path(name).read_text().splitlines()
    assert (first, second) == (f"# {command} --recipe {name} --data DATA/{data}", "#")


def test_the_list() -> None:
    result = CliRunner().invoke(app, ["recipes"])
    header, *lines = (line.split() for line in result.stdout.splitlines())
    assert header == ["recipe", "model", "weights", "data", "loss"]
    found = {line[0]: line[1:] for line in lines}
    assert list(found) == recipes()
    for name, data, model, weights, *_ in ROWS:
        expected = [model, DATACOMP if weights == "datacomp" else weights, data]
        assert found[name][:3] == expected and ("LoRA" in found[name]) == ("lora" in name)


def test_one_of_them() -> None:
    path = Path(fsctrain.__file__).parent / "recipes" / "fsc-clip.yaml"
    assert CliRunner().invoke(app, ["recipes", "fsc-clip"]).stdout == path.read_text()
