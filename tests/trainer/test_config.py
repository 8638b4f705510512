"""Settings: parsing, and error messages for invalid values and conflicts."""

from __future__ import annotations

from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fsctrain.config import Config, dump_config, load_config


def test_parses_command_line_strings() -> None:
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


def test_a_dumped_config_is_a_recipe(tmp_path: Path) -> None:
    """Every setting, given as a command-line string, survives the file unchanged."""
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
        "score": "choice/replace,text_to_image_recall@1",
        **{"checkpoint_every": "7", "checkpoint_minutes": "none", "seed": str(2**60)},
        **{"workers": "3", "device": "cuda:1", "precision": "fp16", "grad_checkpointing": True},
        **{"compile": True, "out": "elsewhere", "name": "x", "log_every": "2"},
        **{"tensorboard": True, "wandb": True, "lora_rank": "none", "lora_alpha": "2"},
        "lora_conv": "full",
        "captions_per_image": "one",
        "mask_same_image": True,
    }
    assert words.keys() == Config.model_fields.keys() - {"recipe"}
    plain = {"data": "x", "lora_rank": "2", "stream": True}
    for number, settings in enumerate((words, plain)):
        config = load_config("fsc-clip", settings)
        path = tmp_path / f"{number}.yaml"
        path.write_text(dump_config(config))
        loaded = load_config(str(path), {"name": "other"})
        assert loaded == config.model_copy(update={"recipe": str(path), "name": "other"})
    config = load_config("fsc-clip", words)
    assert config.data == ("s3://bucket/a", "b") and config.validation == "s3://bucket/c"
    assert (config.freeze_image, config.freeze_text) == ("all", 2)
    assert config.checkpoint_minutes is None and config.shard_loss is False


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lr", "fast", "`lr` fast: input should be a valid number"),
        ("lr", "0", "`lr` 0: input should be greater than 0"),
        ("lr", "nan", "`lr` nan: input should be"),
        ("lr", "none", "`lr` none: input should be a valid number"),
        ("seed", str(10**22), f"`seed` {10**22}: input should be less than"),
        ("steps", "0", "`steps` 0: input should be greater than or equal to 1"),
        ("batch_size", "2.5", "`batch_size` 2.5: input should be a valid integer"),
        ("betas", "0.9", "`betas` 0.9: expected two comma-separated numbers"),
        ("betas", "0.9,1", "`betas` 0.9,1: expected two numbers from 0 to less than 1"),
        ("crop_scale", "1,0.9", "`crop_scale` 1,0.9: expected two ascending numbers above 0"),
        ("precision", "fp8", "`precision` fp8: input should be 'auto', 'fp32', 'bf16' or 'fp16'"),
        ("label_smoothing", "1", "`label_smoothing` 1: input should be less than 1"),
        ("styles", "a,a", "`styles` a,a: a name is listed twice"),
        ("freeze_image", "some", "`freeze_image` some: expected a number of blocks, or all"),
        ("freeze_image", True, "`freeze_image` True: expected a number of blocks, or all"),
        ("freeze_text", "-1", "`freeze_text` -1: expected a number of blocks, or all"),
        ("context_length", "1", "`context_length` 1: input should be greater than or equal to 2"),
        ("data_weights", "0", "`data_weights` 0: input should be greater than 0"),
        ("data", "", "`data` : tuple should have at least 1 item"),
        ("schedule", "linear", "`schedule` linear: input should be 'cosine', 'constant' or"),
        ("name", "../x", "`name` ../x: expected a folder name of letters"),
        ("name", "", "`name` : expected a folder name of letters"),
    ],
)
def test_invalid_values_are_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(FsckitError) as error:
        load_config("fsc-clip", {"data": "x", name: value})
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data_weights": "1,2"}, "`data_weights` has 2 numbers for the 1 data sets of `data`"),
        ({"data": "x,y", "data_weights": "1"}, "`data_weights` has 1 numbers for the 2 data sets"),
        (
            {"lora_rank": "4", "freeze_image": "1"},
            "`lora_rank` already freezes everything but its own matrices",
        ),
        (
            {"stream": True, "captions_per_image": "one"},
            "`captions_per_image` one needs tars that are read by offset",
        ),
        (
            {"lora_rank": "4", "freeze_text": "all"},
            "`lora_rank` already freezes everything but its own matrices",
        ),
        ({"micro_batch_size": "512"}, "`micro_batch_size` 512 is larger than `batch_size` 256"),
        ({"cooldown": "10"}, "`schedule` cooldown and `cooldown` STEPS must be set together"),
        ({"schedule": "cooldown"}, "`schedule` cooldown and `cooldown` STEPS must be set together"),
        (
            {"schedule": "cooldown", "cooldown": "51", "steps": "100"},
            "`warmup` 50 and `cooldown` 51 exceed `steps` 100",
        ),
        ({"patience": "2"}, "`patience` 2 needs a validation data set"),
        ({"score": "choice/a,b"}, "`score` choice/a,b needs a validation data set"),
        ({"validate_every": "9"}, "`validate_every` 9 needs a validation data set"),
        ({"validation": "x"}, "`validation` x is also training data"),
        ({"validation": "./x/"}, "`validation` ./x/ is also training data"),
        ({"validation": str(Path("x").absolute())}, f"`validation` {Path('x').absolute()} is"),
        (
            {"data": "s3://b/x", "validation": "s3://b/x/"},
            "`validation` s3://b/x/ is also training data",
        ),
    ],
)
def test_conflicting_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(FsckitError) as error:
        load_config("fsc-clip", {"data": "x", **settings})
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
    # Consistent settings are accepted.
    load_config(
        "fsc-clip",
        {"data": "x,y", "data_weights": "1,2", "schedule": "cooldown", "cooldown": "50"}
        | {"steps": "100", "validation": "z", "patience": "2", "validate_every": "9"}
        | {"freeze_image": "1", "device": "cuda", "precision": "fp16", "micro_batch_size": "256"},
    )


@pytest.mark.slow
def test_invalid_recipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        FsckitError, match=r"unknown recipe 'nope'; choose clip, .*fsc-clip, .*negclip"
    ):
        load_config("nope", {})
    with pytest.raises(FsckitError, match=r"nope.yaml: file not found"):
        load_config("nope.yaml", {})
    with pytest.raises(FsckitError, match="`data` is missing"):
        load_config("clip", {})
    path = tmp_path / "mine.yaml"
    for text, message in (
        ("data: [", "not a YAML file"),
        ("- 1", "expected a mapping of settings to values"),
        ("", "expected a mapping of settings to values"),
        (
            "data: x\nlearning_rate: 1",
            "unknown setting 'learning_rate'; choose extends, dataset, data, data_weights",
        ),
        ("data: x\nlr: -1", r"mine.yaml: lr: -1: input should be greater"),
        ("data: !!python/object/apply:os.getcwd []", "not a YAML file"),
        ("data: x\nlr: 2024-13-45", "not a YAML file .month must be in"),
        (f"data: x\nseed: {'9' * 5000}", "not a YAML file"),
        (f"data: x\nfreeze_image: 0x{'f' * 5000}", "not a YAML file"),
        (f"data: {'[' * 3000}", "not a YAML file"),
        (
            "data: x\nfreeze_image: true",
            "mine.yaml: freeze_image: True: expected a number of blocks",
        ),
    ):
        path.write_text(text)
        with pytest.raises(FsckitError, match=message) as error:
            load_config(str(path), {})
        assert "\n" not in str(error.value)


def test_configs_are_frozen_and_refuse_unknown_settings() -> None:
    config = Config(data=Path("x"))
    with pytest.raises(ValueError, match="frozen"):
        config.lr = 1.0
    with pytest.raises(ValueError, match="Extra inputs"):
        Config(data=Path("x"), learning_rate=1)
