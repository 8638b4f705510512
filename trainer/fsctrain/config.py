"""All settings of a run in one frozen model; `fsctrain run` derives its options from the fields."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fscdata.base.errors import FsckitError
from fsctrain.fields import (
    Blocks,
    Count,
    Decays,
    Folder,
    FolderName,
    Folders,
    Names,
    Numbers,
    Positive,
    Shares,
    normalize_folder,
    setting,
)
from fsctrain.recipes import Recipe, read_recipe


class Config(BaseModel):
    """The settings of one run, as `fsctrain run` takes them and `config.yaml` records them.

    Settings that do not affect the result also belong in `run_folder.FREE`; all others must stay
    the same when a run resumes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    data: Folders = setting(
        "Data", help="data set folders with tars, samples and negatives, comma-separated"
    )
    data_weights: Numbers = setting(
        "Data", (), help="how often each data set's captions are seen per epoch, such as 0.5,2"
    )
    recipe: str | None = setting(
        "Run", None, help="recipe name (see 'fsctrain recipes') or path to a YAML file"
    )
    model: str = setting(
        "Model",
        "ViT-B-32",
        help="open_clip model name, path to an open_clip config JSON, or the architecture of a run "
        "or checkpoint folder, local-dir:FOLDER or hf-hub:OWNER/NAME",
    )
    pretrained: str = setting(
        "Model",
        "openai",
        help="pretrained tag, path to weights, run or checkpoint folder, local-dir:FOLDER, "
        "hf-hub:OWNER/NAME, or none for random weights; for a file of OpenAI "
        "weights, choose a model name ending in -quickgelu",
    )

    context_length: Annotated[int, Field(ge=2)] | None = setting(
        "Model", None, help="maximum tokens per text, at most the model's own context length"
    )
    lora_rank: Count | None = setting(
        "Model", None, help="rank of the LoRA matrices; freezes all other weights"
    )
    lora_alpha: float = setting(
        "Model", 1.0, gt=0, help="LoRA scale: updates are multiplied by alpha/rank"
    )
    lora_conv: Literal["rank", "full"] = setting(
        "Model",
        "rank",
        help="LoRA on the patch convolution: rank, or full as in FSC-CLIP's released runs "
        "(4.1 M instead of 1.0 M parameters for ViT-B-32)",
    )
    freeze_image: Blocks = setting(
        "Model", 0, help="number of image tower blocks to freeze from the bottom, or all"
    )
    freeze_text: Blocks = setting(
        "Model", 0, help="number of text tower blocks to freeze from the bottom, or all"
    )

    loss: str = setting("Loss", "clip", help="clip, negclip, fsc-clip, or a path to a .py file")
    styles: Names = setting(
        "Loss", (), help="styles of hard negatives to train on, comma-separated"
    )
    global_weight: float = setting(
        "Loss", 0.0, ge=0, help="weight of the global hard-negative loss"
    )
    local_weight: float = setting("Loss", 0.0, ge=0, help="weight of the local hard-negative loss")
    focal_gamma: float = setting(
        "Loss", 2.0, ge=0, help="focal exponent of the hard-negative losses"
    )
    label_smoothing: float = setting(
        "Loss", 0.02, ge=0, lt=1, help="label smoothing of the hard-negative losses"
    )

    mask_same_image: bool = setting(
        "Loss", False, help="leave other captions of an image out of its softmax"
    )
    shard_loss: bool = setting(
        "System", True, help="on each rank, compute the loss of its own rows only"
    )

    epochs: int = setting("Optimization", 5, ge=1, help="number of passes over the captions")
    steps: Count | None = setting(
        "Optimization", None, help="total number of steps; overrides epochs"
    )
    batch_size: int = setting("Optimization", 256, ge=1, help="captions per step, across all ranks")
    micro_batch_size: Count | None = setting(
        "System", None, help="captions encoded at a time per rank; saves memory, same gradient"
    )
    lr: float = setting("Optimization", 5e-6, gt=0, help="peak learning rate of AdamW")
    betas: Decays = setting(
        "Optimization", (0.9, 0.98), help="AdamW's two decay rates, comma-separated"
    )
    eps: float = setting("Optimization", 1e-6, gt=0, help="AdamW's epsilon")
    weight_decay: float = setting(
        "Optimization", 0.1, ge=0, help="AdamW's weight decay, applied to matrices only"
    )
    schedule: Literal["cosine", "constant", "cooldown"] = setting(
        "Optimization", "cosine", help="learning rate after warm-up: cosine, constant or cooldown"
    )
    warmup: int = setting("Optimization", 50, ge=0, help="steps of linear warm-up")
    cooldown: int = setting(
        "Optimization", 0, ge=0, help="final steps of linear decay to 0 (cooldown schedule)"
    )
    grad_clip_norm: Positive | None = setting(
        "Optimization", None, help="maximum gradient norm; larger gradients are scaled down"
    )
    crop_scale: Shares = setting(
        "Data", (0.9, 1.0), help="crop area as a share of the image: minimum,maximum"
    )

    captions_per_image: Literal["all", "one"] = setting(
        "Data",
        "all",
        help="captions of an image per epoch: all, or one at random, so that no batch repeats an "
        "image",
    )
    transform: Literal["uint8", "pil"] = setting(
        "Data", "uint8", help="image transform: uint8 is fast, pil matches open_clip's pixels"
    )
    max_bad: float = setting(
        "Data", 0.01, ge=0, le=1, help="maximum share of unreadable images before the run stops"
    )
    stream: bool = setting(
        "Data", False, help="read tars sequentially instead of by random access, for remote data"
    )

    validation: Folder | None = setting(
        "Evaluation",
        None,
        help="data set folder to score the model on; must not be in the training data",
    )
    validate_every: Count | None = setting(
        "Evaluation", None, help="steps between validations [default: one epoch]"
    )
    score: Names = setting(
        "Evaluation",
        (),
        help="validation scores whose mean is the score that patience follows, comma-separated, "
        "such as choice/replace,text_to_image_recall@1 [default: all but choice/shuffle-*, "
        "whose negatives can be told from their text alone]",
    )
    patience: Count | None = setting(
        "Evaluation", None, help="stop after this many validations without a better score"
    )
    checkpoint_every: Count | None = setting("Checkpoints", None, help="steps between saved states")
    checkpoint_minutes: Positive | None = setting(
        "Checkpoints", 30.0, help="minutes between saved states, or none"
    )

    seed: int = setting(
        "Optimization", 0, ge=0, lt=2**63, help="random seed for weights, data order and crops"
    )
    workers: int = setting(
        "System",
        default_factory=lambda: min(4, os.cpu_count() or 1),
        ge=0,
        le=256,
        help="processes that load data; affects the result only when streaming",
    )
    device: str = setting("System", "auto", help="device: auto, cpu, cuda, cuda:1, …")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting(
        "System", "auto", help="fp32, bf16 or fp16; auto is bf16 on a GPU, else fp32"
    )
    grad_checkpointing: bool = setting(
        "System", False, help="recompute activations in the backward pass to save memory"
    )
    compile: bool = setting("System", False, help="compile the towers with torch.compile")
    out: Path = setting("Run", Path("runs"), help="folder for all runs")
    name: FolderName = setting(
        "Run", "run", help="name of this run's folder [default: the recipe's name]"
    )
    log_every: int = setting("Run", 10, ge=1, help="steps between metrics records")
    tensorboard: bool = setting("Run", False, help="log metrics to TensorBoard in the run's folder")
    wandb: bool = setting("Run", False, help="log metrics to Weights & Biases")

    @model_validator(mode="after")
    def _check(self) -> Config:
        """Reject conflicting settings; reports the first conflict."""
        for conflict in _conflicts(self):
            raise ValueError(conflict)
        return self


def _conflicts(config: Config) -> Iterator[str]:
    """An error message for each conflict between settings."""
    c = config
    if c.data_weights and len(c.data_weights) != len(c.data):
        yield (
            f"`data_weights` has {len(c.data_weights)} numbers for the {len(c.data)} data sets of "
            f"`data`; set one for each"
        )
    if c.lora_rank is not None and (c.freeze_image or c.freeze_text):
        yield (
            "`lora_rank` already freezes everything but its own matrices; remove `freeze_image` "
            "and `freeze_text`"
        )
    if c.micro_batch_size is not None and c.micro_batch_size > c.batch_size:
        yield (
            f"`micro_batch_size` {c.micro_batch_size} is larger than `batch_size` {c.batch_size}; "
            f"reduce or remove it"
        )
    if (c.schedule == "cooldown") != (c.cooldown > 0):
        yield "`schedule` cooldown and `cooldown` STEPS must be set together; set both or neither"
    if c.stream and c.captions_per_image == "one":
        yield (
            "`captions_per_image` one needs tars that are read by offset; turn off `stream`, or "
            "set it to all"
        )
    if c.steps is not None:
        yield from schedule_conflicts(c, c.steps, f"`steps` {c.steps}")
    score = ",".join(c.score) or None
    needs = {"validate_every": c.validate_every, "score": score, "patience": c.patience}
    for name, value in needs.items():
        if value is not None and c.validation is None:
            yield f"`{name}` {value} needs a validation data set; set one with `validation`"
    if c.validation is not None:
        # Scores on training data would make early stopping pick an overfitted model.
        trained_on = map(normalize_folder, c.data)
        if normalize_folder(c.validation) in trained_on:
            yield f"`validation` {c.validation} is also training data; choose another data set"


def schedule_conflicts(config: Config, steps: int, run: str) -> Iterator[str]:
    """An error message if warm-up and cooldown exceed `steps`, described there as `run`.

    Checked first if `steps` is set, and again once the data determines the number of steps.
    """
    c = config
    if c.cooldown and c.warmup + c.cooldown > steps:
        yield f"`warmup` {c.warmup} and `cooldown` {c.cooldown} exceed {run}; shorten them"


_OPTIONAL = frozenset(
    name for name, f in Config.model_fields.items() if type(None) in get_args(f.annotation)
)


def load_config(recipe: str, settings: Mapping[str, Any]) -> Config:
    """Load a recipe's settings, with overrides.

    Args:
        recipe: its name, or a path to a YAML file.
        settings: overrides, as values or command-line strings; `none` unsets an optional one.

    Raises:
        FsckitError: unknown recipe or setting, or an invalid value.
    """
    parsed = read_recipe(recipe)
    # A run is named after its recipe by default; the command line overrides the file.
    values = {"name": parsed.path.stem, **parsed.settings, **settings, "recipe": recipe}
    # Only optional settings: `none` is a valid value of `pretrained`.
    for name in _OPTIONAL & values.keys():
        if values[name] == "none":
            values[name] = None
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise FsckitError(_sentence(error, parsed, settings)) from None


def _sentence(error: ValidationError, recipe: Recipe, settings: Mapping[str, Any]) -> str:
    """Pydantic's first error, with the setting and the file it comes from."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:  # a conflict of several settings
        return message
    name = str(first["loc"][0])
    if first["type"] == "missing":
        return f"`{name}` is missing; set it here or in the recipe"
    # Name the file that sets the value, which may be an extended recipe.
    path = recipe.sources.get(name, recipe.path)
    if first["type"] == "extra_forbidden":
        known = ", ".join(["extends", "dataset", *Config.model_fields])
        return f"{path}: unknown setting '{name}'; choose {known}"
    value = settings.get(name, first["input"])
    where = f"`{name}` {value}" if name in settings else f"{path}: {name}: {value}"
    return f"{where}: {message[:1].lower()}{message[1:]}"


def dump_config(config: Config) -> str:
    """The settings as YAML, usable as a recipe."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text
