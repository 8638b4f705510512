"""Every setting of a run, in one frozen model; the command's flags are made from its fields."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fscdata.base.errors import FsckitError, first_line
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
    place,
)

RECIPES = Path(__file__).parent / "recipes"


def _none(value: object) -> object:
    """A flag's word `none` where a setting may be left out."""
    return None if value == "none" else value


class Config(BaseModel):
    """The settings of one run, as `fsctrain run` takes them and `config.yaml` records them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    data: Folders = Field(
        description="the data set's folder: tars, samples and negatives; several by comma"
    )
    data_weights: Numbers = Field(
        (), description="how often a caption of each data set is seen in an epoch, by comma: 0.5, 2"
    )
    recipe: str | None = Field(
        None, description="a recipe's name (see 'fsctrain recipes') or a path to a YAML file"
    )
    model: str = Field(
        "ViT-B-32", description="an open_clip model name, or a path to an open_clip config JSON"
    )
    pretrained: str = Field(
        "openai",
        description="a tag of the model, a path to its weights, or none for random weights; for a "
        "file of OpenAI's weights name a model that ends in -quickgelu",
    )

    context_length: Annotated[int, Field(ge=2)] | None = Field(
        None, description="tokens that a text is cut to; at most the model's own number"
    )
    lora_rank: Count | None = Field(
        None, description="rank of the LoRA matrices; all other weights are frozen then"
    )
    lora_alpha: float = Field(1.0, gt=0, description="LoRA's alpha: an update counts alpha/rank")
    freeze_image: Blocks = Field(
        0, description="lowest blocks of the image tower that are not trained, or all"
    )
    freeze_text: Blocks = Field(
        0, description="lowest blocks of the text tower that are not trained, or all"
    )

    loss: str = Field("clip", description="a module of fsctrain.losses: clip, negclip, fsc-clip, …")
    styles: Names = Field((), description="the styles of negatives to train on, by comma")
    global_weight: float = Field(0.0, ge=0, description="weight of the global hard-negative loss")
    local_weight: float = Field(0.0, ge=0, description="weight of the local hard-negative loss")
    focal_gamma: float = Field(2.0, ge=0, description="focal exponent of the hard-negative losses")
    label_smoothing: float = Field(
        0.02, ge=0, lt=1, description="label smoothing of the hard-negative losses"
    )

    shard_loss: bool = Field(
        True, description="a rank computes its own rows of the loss; else each computes all of them"
    )

    epochs: int = Field(5, ge=1, description="how often every caption is seen")
    steps: Count | None = Field(None, description="number of steps in all; replaces epochs")
    batch_size: int = Field(256, ge=1, description="captions a step, over all ranks")
    micro_batch_size: Count | None = Field(
        None,
        description="captions that a rank encodes at once; the gradient is the whole batch's",
    )
    lr: float = Field(5e-6, gt=0, description="peak learning rate of AdamW")
    betas: Decays = Field((0.9, 0.98), description="AdamW's two decay rates, by comma")
    eps: float = Field(1e-6, gt=0, description="AdamW's epsilon")
    weight_decay: float = Field(0.1, ge=0, description="AdamW's weight decay, on matrices only")
    schedule: Literal["cosine", "constant", "cooldown"] = Field(
        "cosine", description="what the rate does after its warm-up"
    )
    warmup: int = Field(50, ge=0, description="steps of linear warm-up")
    cooldown: int = Field(0, ge=0, description="last steps in which schedule cooldown falls to 0")
    grad_clip_norm: Positive | None = Field(None, description="largest norm of the gradient")
    crop_scale: Shares = Field(
        (0.9, 1.0), description="smallest and largest share of the picture that a crop keeps"
    )

    transform: Literal["uint8", "pil"] = Field(
        "uint8", description="uint8 crops fast, on bytes; pil gives open_clip's own pixels"
    )
    max_bad: float = Field(
        0.01, ge=0, le=1, description="share of unreadable pictures beyond which the run stops"
    )
    stream: bool = Field(
        False, description="read the tars from first to last, for data that is far away"
    )

    validation: Folder | None = Field(
        None, description="a data set's folder to score the model on; none of it is trained on"
    )
    validate_every: Count | None = Field(
        None, description="steps between two validations; else one an epoch"
    )
    patience: Count | None = Field(
        None, description="validations without a better score after which the run ends"
    )
    checkpoint_every: Count | None = Field(
        None, description="steps between two checkpoints that --resume can go on from"
    )
    checkpoint_minutes: Positive | None = Field(
        30.0, description="minutes between two checkpoints that --resume can go on from"
    )

    seed: int = Field(0, ge=0, lt=2**63, description="seed of the weights, the order and the crops")
    workers: int = Field(
        default_factory=lambda: min(4, os.cpu_count() or 1),
        ge=0,
        le=256,
        description="processes that read pictures; the result depends on it with --stream only",
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, …")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto is bf16 where there is a GPU, else fp32"
    )
    grad_checkpointing: bool = Field(
        False, description="compute activations twice instead of keeping them"
    )
    compile: bool = Field(False, description="compile the towers with torch.compile")
    out: Path = Field(Path("runs"), description="the folder of all runs")
    name: FolderName = Field(
        "run", description="this run's folder in --out; a recipe's runs bear its name"
    )
    log_every: int = Field(10, ge=1, description="steps between two lines of metrics")
    tensorboard: bool = Field(False, description="metrics for TensorBoard too, in the run's folder")
    wandb: bool = Field(False, description="metrics to Weights & Biases too")

    @model_validator(mode="after")
    def _check(self) -> Config:
        """Settings that do not go together: the first such pair is the error."""
        for mistake in _mistakes(self):
            raise ValueError(mistake)
        return self


def _mistakes(config: Config) -> Iterator[str]:
    """A sentence for every two settings that exclude or need each other."""
    c = config
    if c.data_weights and len(c.data_weights) != len(c.data):
        yield (
            f"--data-weights has {len(c.data_weights)} numbers for the {len(c.data)} data sets of "
            f"--data; give one for each"
        )
    if c.lora_rank is not None and (c.freeze_image or c.freeze_text):
        yield (
            "--lora-rank freezes all but its own matrices; leave out --freeze-image and "
            "--freeze-text"
        )
    if c.micro_batch_size is not None and c.micro_batch_size > c.batch_size:
        yield (
            f"--micro-batch-size {c.micro_batch_size} is more than the {c.batch_size} captions of "
            f"--batch-size; give less, or leave it out"
        )
    if (c.schedule == "cooldown") != (c.cooldown > 0):
        yield "--schedule cooldown and --cooldown STEPS need each other; give both or neither"
    if c.steps is not None:
        yield from too_long(c, c.steps, f"--steps {c.steps}")
    for option, value in (("--validate-every", c.validate_every), ("--patience", c.patience)):
        if value is not None and c.validation is None:
            yield f"{option} {value} needs a data set to validate on; name it with --validation"
    if c.validation is not None and place(c.validation) in map(place, c.data):
        yield f"--validation {c.validation} is trained on too; name another data set"


def too_long(config: Config, steps: int, run: str) -> Iterator[str]:
    """A sentence where warm-up and cooldown do not fit into `steps`, which it calls `run`."""
    c = config
    if c.cooldown and c.warmup + c.cooldown > steps:
        yield (f"--warmup {c.warmup} and --cooldown {c.cooldown} are more than {run}; shorten them")


_OPTIONAL = frozenset(
    name for name, f in Config.model_fields.items() if type(None) in get_args(f.annotation)
)


def recipes() -> list[str]:
    """The names of the recipes that ship with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def recipe_path(recipe: str) -> Path:
    """The file of a recipe, given by name or by path.

    Raises:
        FsckitError: there is none; the message lists those that there are.
    """
    if recipe in recipes():
        return RECIPES / f"{recipe}.yaml"
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise FsckitError(f"--recipe {recipe}: no such file")
    raise FsckitError(
        f"--recipe {recipe}: no such recipe (there are: {', '.join(recipes())}; or give a path to "
        f"a .yaml file)"
    )


def load_config(recipe: str, settings: Mapping[str, Any]) -> Config:
    """A recipe with some settings replaced; `settings` are words of the command line or values.

    Raises:
        FsckitError: no such recipe, no such setting, or a value that the setting cannot have.
    """
    path = recipe_path(recipe)
    try:
        written = yaml.safe_load(path.read_text(encoding="utf-8"))
        str(written)  # fails on a number of more digits than Python writes, which no setting has
    # A date that is none, a number of thousands of digits, brackets in brackets in brackets.
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise FsckitError(f"{path}: not a YAML file ({first_line(error)})") from None
    if not isinstance(written, dict):
        raise FsckitError(f"{path}: a recipe is a mapping of settings to values")
    values: dict[str, Any] = {"name": path.stem, **written, **settings, "recipe": recipe}
    for name in _OPTIONAL & values.keys():
        values[name] = _none(values[name])
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise FsckitError(_sentence(error, path, settings)) from None


def _sentence(error: ValidationError, path: Path, settings: Mapping[str, Any]) -> str:
    """The first of pydantic's complaints, naming the option or the recipe's line."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:  # of several settings together
        return message
    name = str(first["loc"][0])
    option = f"--{name.replace('_', '-')}"
    if first["type"] == "missing":
        return f"{option} is missing: {Config.model_fields[name].description}"
    if first["type"] == "extra_forbidden":
        return f"{path}: no such setting '{name}' (there are: {', '.join(Config.model_fields)})"
    value = settings.get(name, first["input"])
    where = f"{option} {value}" if name in settings else f"{path}: {name}: {value}"
    return f"{where}: {message[:1].lower()}{message[1:]}"


def dump_config(config: Config) -> str:
    """The settings as YAML, itself a recipe."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text
