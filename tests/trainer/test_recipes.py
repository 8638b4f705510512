"""The shipped recipes against their published settings, and how recipes extend one another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from open_clip.pretrained import get_pretrained_cfg

from fscdata.base.errors import FsckitError
from fsctrain.config import load_config
from fsctrain.losses import load_loss
from fsctrain.recipes import find_recipe, read_recipe, recipe_names
from support.commands import command

L14 = "ViT-L-14"
DATACOMP = "datacomp_xl_s13b_b90k"
# name, data set, model, weights, batch, rate, weights of the global and the local loss, LoRA rank
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
negclip-laion-coco-100k                laion-coco-100k ViT-B-32 openai   256 5e-6 0.0 0.0 -
clip                                   coco            ViT-B-32 openai   256 5e-6 0.0 0.0 -
clip-cc3m-100k                         cc3m-100k       ViT-B-32 openai   256 5e-6 0.0 0.0 -
clip-laion-coco-100k                   laion-coco-100k ViT-B-32 openai   256 5e-6 0.0 0.0 -
"""
ROWS = [line.split() for line in PUBLISHED.strip().splitlines()]
STYLES = {"fsc-clip": ("negclip", "replace", "shuffle-2"), "negclip": ("negclip",), "clip": ()}
# All settings of every recipe, recorded before recipes could extend one another.
SETTINGS = json.loads((Path(__file__).parent / "recipe_settings.json").read_text())


def test_every_published_run_has_a_recipe() -> None:
    assert recipe_names() == sorted(row[0] for row in ROWS)
    assert recipe_names() == sorted(SETTINGS.keys() - {"all"})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_settings_are_the_published_ones(row: list[str]) -> None:
    name, _, model, weights, batch, lr, global_weight, local_weight, lora = row
    config = load_config(name, {"data": "x"})
    load_loss(config)
    assert (config.name, config.recipe, config.model) == (name, name, model)
    assert config.pretrained == (DATACOMP if weights == "datacomp" else weights)
    known = get_pretrained_cfg(model, config.pretrained)
    assert bool(known.get("quick_gelu")) == (
        weights == "openai"
    )  # the model has the right activation
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


@pytest.mark.parametrize("name", recipe_names())
def test_settings_are_pinned(name: str) -> None:
    config = load_config(name, {"data": "x"}).model_dump(mode="json")
    for machine_specific in ("data", "workers"):
        del config[machine_specific]
    assert config == {**SETTINGS["all"], **SETTINGS[name], "recipe": name, "name": name}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_files_open_with_their_launch_command(row: list[str]) -> None:
    """The published runs on four GPUs launch with torchrun."""
    name, dataset, model = row[:3]
    launcher = "torchrun --nproc-per-node 4 -m fsctrain run" if model == L14 else "fsctrain run"
    first, second, *_ = find_recipe(name).read_text().splitlines()
    assert (first, second) == (f"# {launcher} --recipe {name} --data DATA/{dataset}", "#")
    assert read_recipe(name).dataset == dataset


def test_lists_the_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("recipes") == 0
    header, *lines = (line.split() for line in capsys.readouterr().out.splitlines())
    assert header == ["recipe", "model", "weights", "data", "loss"]
    rows = {line[0]: line[1:] for line in lines}
    assert list(rows) == recipe_names()
    for name, dataset, model, weights, *_ in ROWS:
        expected = [model, DATACOMP if weights == "datacomp" else weights, dataset]
        assert rows[name][:3] == expected and ("LoRA" in rows[name]) == ("lora" in name)


def test_shows_a_recipe_with_the_settings_it_extends(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("recipes", "fsc-clip") == 0
    assert capsys.readouterr().out == find_recipe("fsc-clip").read_text()

    assert command("recipes", "fsc-clip-lora") == 0
    shown = capsys.readouterr().out
    text = find_recipe("fsc-clip-lora").read_text()
    head, _, settings = shown.partition("#\n# All settings:\n")
    assert head == text and shown.startswith("# fsctrain run --recipe fsc-clip-lora ")
    resolved = yaml.safe_load("".join(line[1:] for line in settings.splitlines(keepends=True)))
    assert resolved == read_recipe("fsc-clip-lora").settings
    assert resolved["lr"] == 5e-5 and resolved["global_weight"] == 0.5
    assert yaml.safe_load(shown) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rate: 1", "unknown setting 'rate'; choose extends, dataset, data, "),
        ("lr: -1", "lr: -1: input should be greater than 0"),
    ],
)
def test_reports_a_mistake_instead_of_showing_it(
    line: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(f"extends: fsc-clip\n{line}\n")
    assert command("recipes", recipe) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"fsctrain: {recipe}: {message}") and captured.out == ""


def test_a_users_recipe_extends_a_shipped_one_and_a_file(tmp_path: Path) -> None:
    base, mine = tmp_path / "base.yaml", tmp_path / "runs" / "mine.yaml"
    mine.parent.mkdir()
    base.write_text(
        "extends: fsc-clip-lora\nlr: 1.0e-3\nwarmup: 3\nname: base\ndata: a\nrecipe: x\n"
    )
    mine.write_text("extends: ../base.yaml\nlr: 2.0e-3\nlora_rank: none\n")
    config = load_config(str(mine), {"batch_size": "8"})
    assert (config.lr, config.warmup, config.batch_size, config.global_weight) == (2e-3, 3, 8, 0.5)
    assert config.lora_rank is None and config.data == ("a",)
    # The name and the recipe are the file's own.
    assert (config.name, config.recipe) == ("mine", str(mine))
    recipe = read_recipe(str(mine))
    assert (recipe.extends, recipe.dataset) == ("../base.yaml", "coco")
    assert recipe.sources["warmup"] == mine.parent / "../base.yaml"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a": "extends: fsc-clap"}, "a.yaml: extends: unknown recipe 'fsc-clap'; choose clip, cl"),
        ({"a": "extends: b.yaml"}, "a.yaml: extends: {folder}/b.yaml: file not found"),
        ({"a": "extends: a.yaml"}, "a.yaml: extends: a.yaml leads back to {folder}/a.yaml"),
        (
            {"a": "extends: ./b.yaml", "b": "extends: c.yaml", "c": "extends: b.yaml"},
            "c.yaml: extends: b.yaml leads back to {folder}/b.yaml",
        ),
        ({"a": "extends: 3"}, "a.yaml: extends: expected text, not 3"),
        ({"a": "dataset: [coco]"}, "a.yaml: dataset: expected text, not ['coco']"),
        ({"a": "extends: b.yaml", "b": "- 1"}, "b.yaml: expected a mapping of settings to values"),
        ({"a": "extends: b.yaml", "b": "lr: fast"}, "b.yaml: lr: fast: input should be a valid"),
        ({"a": "extends: b.yaml", "b": "dataset: 3"}, "b.yaml: dataset: expected text, not 3"),
        ({"a": "extends: b.yaml", "b": "rate: 1"}, "b.yaml: unknown setting 'rate'; choose "),
        ({"a": "1: 2"}, "a.yaml: expected a mapping of settings to values"),
    ],
)
def test_an_invalid_recipe_gives_a_one_line_error(
    files: dict[str, str], message: str, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    with pytest.raises(FsckitError) as error:
        load_config(str(tmp_path / "a.yaml"), {"data": "x"})
    expected = f"{tmp_path}/{message.format(folder=tmp_path)}"
    assert str(error.value).startswith(expected) and "\n" not in str(error.value)
