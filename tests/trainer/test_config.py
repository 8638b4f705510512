"""Recipes, settings and the sentences for wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from fscdata.contract import FsckitError
from fsctrain.config import Config, dump_config, load_config, recipe_path, recipes
from fsctrain.losses import load_loss


@pytest.mark.parametrize("name", recipes())
def test_recipes_that_ship(name: str) -> None:
    """Each opens with its command, says all that its loss needs, and has the published settings."""
    first = recipe_path(name).read_text().splitlines()[0]
    assert first == f"# fsctrain run --recipe {name} --data DATA"
    config = load_config(name, {"data": "x"})
    load_loss(config)
    assert (config.name, config.recipe) == (name, name)
    assert (config.batch_size, config.epochs, config.warmup) == (256, 5, 50)
    assert (config.betas, config.eps, config.weight_decay) == ((0.9, 0.98), 1e-6, 0.1)


def test_published_settings() -> None:
    config = load_config("fsc-clip", {"data": "x"})
    assert config.styles == ("negclip", "replace", "shuffle-2")
    assert (config.lr, config.global_weight, config.local_weight) == (5e-6, 0.5, 0.2)
    assert (config.focal_gamma, config.label_smoothing) == (2, 0.02)
    assert load_config("negclip", {"data": "x"}).lr == 1e-6


def test_words_of_the_command_line() -> None:
    settings = {
        "data": "x",
        "styles": "a, b,c",
        "betas": "0.8,0.9",
        "steps": "none",
        "grad_clip_norm": "1",
        "pretrained": "none",
        "lr": "5e-4",
    }
    config = load_config("fsc-clip", settings)
    assert config.styles == ("a", "b", "c") and config.betas == (0.8, 0.9)
    assert config.steps is None and config.grad_clip_norm == 1.0
    assert config.pretrained == "none" and config.lr == 5e-4
    assert load_config("fsc-clip", {"data": "x", "styles": ""}).styles == ()


def test_config_file_is_a_recipe(tmp_path: Path) -> None:
    config = load_config("fsc-clip", {"data": "x", "grad_clip_norm": "1", "lr": "1e-7"})
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    again = load_config(str(path), {"name": "other"})
    assert again == config.model_copy(update={"recipe": str(path), "name": "other"})


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("lr", "fast", "--lr fast: input should be a valid number"),
        ("lr", "0", "--lr 0: input should be greater than 0"),
        ("lr", "nan", "--lr nan: input should be"),
        ("lr", "none", "--lr none: input should be a valid number"),
        ("seed", str(10**22), f"--seed {10**22}: input should be less than"),
        ("steps", "0", "--steps 0: input should be greater than or equal to 1"),
        ("batch_size", "2.5", "--batch-size 2.5: input should be a valid integer"),
        ("betas", "0.9", "--betas 0.9: two numbers, with a comma between them"),
        ("betas", "0.9,1", "--betas 0.9,1: two numbers from 0 to less than 1"),
        ("crop_scale", "1,0.9", "--crop-scale 1,0.9: two numbers in ascending order"),
        ("precision", "fp8", "--precision fp8: input should be 'auto', 'fp32' or 'bf16'"),
        ("label_smoothing", "1", "--label-smoothing 1: input should be less than 1"),
        ("styles", "a,a", "--styles a,a: a style is named twice"),
        ("name", "../x", "--name ../x: the name of a folder is wanted"),
        ("name", "", "--name : the name of a folder is wanted"),
    ],
)
def test_wrong_values(option: str, value: str, words: str) -> None:
    with pytest.raises(FsckitError) as error:
        load_config("fsc-clip", {"data": "x", option: value})
    assert str(error.value).startswith(words) and "\n" not in str(error.value)


def test_wrong_recipes(tmp_path: Path) -> None:
    with pytest.raises(FsckitError, match=r"--recipe nope: .*clip, fsc-clip, negclip"):
        load_config("nope", {})
    with pytest.raises(FsckitError, match=r"--recipe nope.yaml: no such file"):
        load_config("nope.yaml", {})
    with pytest.raises(FsckitError, match="--data is missing"):
        load_config("clip", {})
    path = tmp_path / "mine.yaml"
    for text, words in (
        ("data: [", "not a YAML file"),
        ("- 1", "a recipe is a mapping"),
        ("", "a recipe is a mapping"),
        ("data: x\nlearning_rate: 1", "no such setting 'learning_rate' .*there are: data, recipe"),
        ("data: x\nlr: -1", r"mine.yaml: lr: -1: input should be greater"),
        ("data: !!python/object/apply:os.getcwd []", "not a YAML file"),
    ):
        path.write_text(text)
        with pytest.raises(FsckitError, match=words) as error:
            load_config(str(path), {})
        assert "\n" not in str(error.value)


def test_frozen_and_closed() -> None:
    config = Config(data=Path("x"))
    with pytest.raises(ValueError, match="frozen"):
        config.lr = 1.0
    with pytest.raises(ValueError, match="Extra inputs"):
        Config(data=Path("x"), learning_rate=1)
