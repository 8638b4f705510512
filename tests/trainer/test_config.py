"""Recipes, settings and the sentences for wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fsctrain.config import Config, dump_config, load_config


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
    """Every setting, given as the command gives it, comes back from the file as it was."""
    words = {
        **{"data": "s3://bucket/a,b", "data_weights": "0.5,2", "model": "m.json"},
        **{"pretrained": "none", "context_length": "12", "freeze_image": "all"},
        **{"freeze_text": "2", "loss": "fsc-clip", "styles": "", "global_weight": "1"},
        **{"local_weight": "0", "focal_gamma": "1", "label_smoothing": "0", "shard_loss": False},
        **{"epochs": "3", "steps": "90", "batch_size": "8", "micro_batch_size": "4"},
        **{"lr": "1e-7", "betas": "0.8,0.9", "eps": "1e-5", "weight_decay": "0"},
        **{"schedule": "cooldown", "warmup": "3", "cooldown": "4", "grad_clip_norm": "1"},
        **{"crop_scale": "0.5,1", "transform": "pil", "max_bad": "0", "stream": False},
        **{"validation": "s3://bucket/c", "validate_every": "5", "patience": "2"},
        **{"checkpoint_every": "7", "checkpoint_minutes": "none", "seed": str(2**60)},
        **{"workers": "3", "device": "cuda:1", "precision": "fp16", "grad_checkpointing": True},
        **{"compile": True, "out": "there", "name": "x", "log_every": "2"},
        **{"tensorboard": True, "wandb": True, "lora_rank": "none", "lora_alpha": "2"},
    }
    assert words.keys() == Config.model_fields.keys() - {"recipe"}
    plain = {"data": "x", "lora_rank": "2", "stream": True}
    for number, settings in enumerate((words, plain)):
        config = load_config("fsc-clip", settings)
        path = tmp_path / f"{number}.yaml"
        path.write_text(dump_config(config))
        again = load_config(str(path), {"name": "other"})
        assert again == config.model_copy(update={"recipe": str(path), "name": "other"})
    config = load_config("fsc-clip", words)
    assert config.data == ("s3://bucket/a", "b") and config.validation == "s3://bucket/c"
    assert (config.freeze_image, config.freeze_text) == ("all", 2)
    assert config.checkpoint_minutes is None and config.shard_loss is False


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
        ("precision", "fp8", "--precision fp8: input should be 'auto', 'fp32', 'bf16' or 'fp16'"),
        ("label_smoothing", "1", "--label-smoothing 1: input should be less than 1"),
        ("styles", "a,a", "--styles a,a: a style is named twice"),
        ("freeze_image", "some", "--freeze-image some: a number of blocks, or all, is wanted"),
        ("freeze_image", True, "--freeze-image True: a number of blocks, or all, is wanted"),
        ("freeze_text", "-1", "--freeze-text -1: a number of blocks, or all, is wanted"),
        ("context_length", "1", "--context-length 1: input should be greater than or equal to 2"),
        ("data_weights", "0", "--data-weights 0: input should be greater than 0"),
        ("data", "", "--data : tuple should have at least 1 item"),
        ("schedule", "linear", "--schedule linear: input should be 'cosine', 'constant' or"),
        ("name", "../x", "--name ../x: the name of a folder is wanted"),
        ("name", "", "--name : the name of a folder is wanted"),
    ],
)
def test_wrong_values(option: str, value: object, words: str) -> None:
    with pytest.raises(FsckitError) as error:
        load_config("fsc-clip", {"data": "x", option: value})
    assert str(error.value).startswith(words) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"data_weights": "1,2"}, "--data-weights has 2 numbers for the 1 data sets of --data"),
        ({"data": "x,y", "data_weights": "1"}, "--data-weights has 1 numbers for the 2 data sets"),
        ({"lora_rank": "4", "freeze_image": "1"}, "--lora-rank freezes all but its own matrices"),
        ({"lora_rank": "4", "freeze_text": "all"}, "--lora-rank freezes all but its own matrices"),
        ({"micro_batch_size": "512"}, "--micro-batch-size 512 is more than the 256 captions"),
        ({"cooldown": "10"}, "--schedule cooldown and --cooldown STEPS need each other"),
        ({"schedule": "cooldown"}, "--schedule cooldown and --cooldown STEPS need each other"),
        (
            {"schedule": "cooldown", "cooldown": "51", "steps": "100"},
            "--warmup 50 and --cooldown 51 are more than --steps 100",
        ),
        ({"patience": "2"}, "--patience 2 needs a data set to validate on"),
        ({"validate_every": "9"}, "--validate-every 9 needs a data set to validate on"),
        ({"validation": "x"}, "--validation x is trained on too"),
        ({"validation": "./x/"}, "--validation ./x/ is trained on too"),
        ({"validation": str(Path("x").absolute())}, f"--validation {Path('x').absolute()} is"),
        ({"data": "s3://b/x", "validation": "s3://b/x/"}, "--validation s3://b/x/ is trained on"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, object], words: str) -> None:
    with pytest.raises(FsckitError) as error:
        load_config("fsc-clip", {"data": "x", **settings})
    assert str(error.value).startswith(words) and "\n" not in str(error.value)
    # Each half alone, or the two in accord, is no mistake.
    load_config(
        "fsc-clip",
        {"data": "x,y", "data_weights": "1,2", "schedule": "cooldown", "cooldown": "50"}
        | {"steps": "100", "validation": "z", "patience": "2", "validate_every": "9"}
        | {"freeze_image": "1", "device": "cuda", "precision": "fp16", "micro_batch_size": "256"},
    )


def test_wrong_recipes(tmp_path: Path) -> None:
    with pytest.raises(FsckitError, match=r"--recipe nope: .*clip, .*fsc-clip, .*negclip"):
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
        (
            "data: x\nlearning_rate: 1",
            "no such setting 'learning_rate' .*there are: data, data_weights, recipe",
        ),
        ("data: x\nlr: -1", r"mine.yaml: lr: -1: input should be greater"),
        ("data: !!python/object/apply:os.getcwd []", "not a YAML file"),
        ("data: x\nlr: 2024-13-45", "not a YAML file .month must be in"),
        (f"data: x\nseed: {'9' * 5000}", "not a YAML file"),
        (f"data: x\nfreeze_image: 0x{'f' * 5000}", "not a YAML file"),
        (f"data: {'[' * 3000}", "not a YAML file"),
        ("data: x\nfreeze_image: true", "mine.yaml: freeze_image: True: a number of blocks"),
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
