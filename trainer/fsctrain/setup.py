"""Create and check the parts of a run from its settings; nothing is written."""

from __future__ import annotations

import logging
import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from open_clip.transformer import CustomResidualAttentionBlock
from torch.amp import GradScaler
from torch.optim import Optimizer

from fscdata.base.errors import FsckitError
from fscdata.base.paths import data_path
from fscdata.contract import shard_paths
from fsctrain.checkpoint import weights_digest
from fsctrain.config import Config, schedule_conflicts
from fsctrain.data import BadImages, Coverage, Source, open_source
from fsctrain.distributed import Ranks
from fsctrain.early_stopping import EarlyStopping
from fsctrain.losses import load_loss
from fsctrain.model import Clip, OpenClip, check_towers, compile_towers, create_model
from fsctrain.model.freeze import freeze
from fsctrain.model.lora import apply_lora
from fsctrain.optim import make_optimizer
from fsctrain.run_folder import BAD_IMAGES
from fsctrain.scoring import validation_digest
from fsctrain.state import Stateful, TrainState
from fsctrain.step import Gradients
from fsctrain.trackers import check_trackers

log = logging.getLogger("fsctrain")

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Training:
    """The parts of a run.

    Attributes:
        clip: the model, with its frozen layers and its LoRA.
        base_digest: `weights_digest` of the weights that training starts from.
        source: the data.
        steps: the run's number of steps.
        gradients: computes a step's losses and gradients.
        optimizer, scaler: the scaler is active only with fp16.
        bad_images: counts the images that could not be used.
        early_stopping: tracks the best score.
        state: saves and loads the parts above.
        fp16: whether the gradient norm may sometimes be infinite.
    """

    clip: Clip
    base_digest: str
    source: Source
    steps: int
    gradients: Gradients
    optimizer: Optimizer
    scaler: GradScaler
    bad_images: BadImages
    early_stopping: EarlyStopping
    state: TrainState
    fp16: bool


def prepare(config: Config, folder: Path, ranks: Ranks, device: torch.device) -> Training:
    """Create the parts of the run in `folder`; nothing is written.

    Raises:
        FsckitError: invalid settings or data.
    """
    precision = _precision(config, device)
    compute_loss = load_loss(config)
    ranks.on_first(lambda: check_trackers(config))
    belongs_to = _check_folders(config)  # before downloading weights
    if compute_loss.digest is not None:
        belongs_to["loss"] = compute_loss.digest
    torch.manual_seed(config.seed)
    clip = create_model(config.model, config.pretrained, device)
    base_digest = weights_digest(clip.model.state_dict())
    check_towers(clip.model, clip.name, local=config.local_weight > 0)
    _check_batch_norms(clip, config, ranks)
    _choose_trained(clip.model, config)
    if config.pretrained != "none" or not all(p.requires_grad for p in clip.model.parameters()):
        # Trained random weights are in the state; their initial values differ between CPUs.
        belongs_to["initial weights"] = base_digest
    source = open_source(config, clip, image_size(clip.model), ranks.rank, ranks.size)
    coverage = source.coverage()
    _check_negatives(config, coverage)
    steps = config.steps or config.epochs * source.steps_per_epoch
    _check_schedule(config, steps, ranks)
    log.info("%s", _opening(config, clip, source, steps, coverage))
    if ranks.first:
        _warn_of_negatives(config, coverage, math.ceil(steps / source.steps_per_epoch))
    log.info("%s in %s%s", device, precision, f", {ranks.size} ranks" if ranks.size > 1 else "")

    optimizer = make_optimizer(clip.model, config)
    scaler = GradScaler(device.type, enabled=precision == "fp16")
    bad_images = BadImages(folder / BAD_IMAGES, config.max_bad, writes=ranks.first)
    early_stopping = EarlyStopping(config.patience, folder)
    parts: dict[str, Stateful] = {
        "scaler": scaler,
        "bad_images": bad_images,
        "early_stopping": early_stopping,
    }
    if ranks.size > 1:
        # The model's random weights are equal on all ranks; dropout must differ.
        torch.manual_seed(config.seed + 1 + ranks.rank)
    autocast = partial(_autocast, device, precision)
    return Training(
        clip=clip,
        base_digest=base_digest,
        source=source,
        steps=steps,
        gradients=Gradients(clip.model, compute_loss, config, ranks, autocast),
        optimizer=optimizer,
        scaler=scaler,
        bad_images=bad_images,
        early_stopping=early_stopping,
        state=TrainState(
            clip.model,
            optimizer,
            parts,
            belongs_to=belongs_to | {"data": source.digest(), "precision": precision},
        ),
        fp16=precision == "fp16",
    )


def image_size(model: OpenClip) -> tuple[int, int]:
    """Height and width of a model's input images."""
    size: Any = model.visual.image_size
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _choose_trained(model: OpenClip, config: Config) -> None:
    """Freeze layers and add LoRA according to the settings."""
    freeze(model, config.freeze_image, config.freeze_text)
    if config.lora_rank is not None:
        apply_lora(model, config.lora_rank, config.lora_alpha, config.lora_conv)
    if config.grad_checkpointing:
        _set_grad_checkpointing(model)
    if config.compile:
        compile_towers(model)


def _set_grad_checkpointing(model: OpenClip) -> None:
    if any(isinstance(module, CustomResidualAttentionBlock) for module in model.modules()):
        raise FsckitError(
            "`grad_checkpointing`: open_clip cannot checkpoint this model's blocks, which have "
            "their own norms in attention; turn it off"
        )
    model.set_grad_checkpointing()


def _check_folders(config: Config) -> dict[str, str]:
    """The digest of the validation data, by its name in the state.

    Raises FsckitError if a data set is missing or has no tars.
    """
    for folder in config.data:
        shard_paths(data_path(folder))
    if config.validation is None:
        return {}
    return {"validation data": validation_digest(config.validation)}


def _precision(config: Config, device: torch.device) -> str:
    if config.precision != "auto":
        return config.precision
    bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return "bf16" if bf16 else "fp32"


def _autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    return torch.autocast(device.type, AUTOCAST.get(precision), enabled=precision in AUTOCAST)


def _check_batch_norms(clip: Clip, config: Config, ranks: Ranks) -> None:
    """Raise FsckitError if batch norm would see only part of the batch."""
    norms = any(isinstance(m, torch.nn.BatchNorm2d) for m in clip.model.modules())
    if norms and config.freeze_image != "all" and (config.micro_batch_size or ranks.size > 1):
        raise FsckitError(
            f"model {clip.name} uses batch norm, so a batch cannot be split; run it on one rank "
            f"without `micro_batch_size`, or set `freeze_image` to all"
        )


def _check_schedule(config: Config, steps: int, ranks: Ranks) -> None:
    for mistake in schedule_conflicts(config, steps, f"the run's {steps:,} steps"):
        raise FsckitError(mistake)
    if config.warmup > steps and ranks.first:
        log.warning(
            "the warm-up (%s steps) is longer than the run (%s steps), which never reaches "
            "learning rate %s",
            f"{config.warmup:,}",
            f"{steps:,}",
            f"{config.lr:g}",
        )


def _check_negatives(config: Config, coverage: list[Coverage]) -> None:
    if config.styles and not any(found.captions for found in coverage):
        raise FsckitError(
            f"{', '.join(config.data)}: no caption has a negative of style "
            f"{' or '.join(config.styles)} whose truncated tokens differ; find the "
            f"reason with 'fscdata inspect {config.data[0]}', or choose other `styles`"
        )


def _warn_of_negatives(config: Config, coverage: list[Coverage], epochs: int) -> None:
    """Warn of negatives that training cannot use, and of those that it will see twice."""
    unusable = [
        f"{found.style} {found.unusable:.1%}" for found in coverage if (found.unusable or 0) > 1e-3
    ]
    if unusable:
        log.warning(
            "negatives whose truncated tokens equal their caption's are skipped: %s",
            ", ".join(unusable),
        )
    few = {found.style: found.variants for found in coverage if found.variants < epochs}
    if few:
        log.warning(
            "%s epochs repeat negatives, since their tables have %s per caption; for a new one in "
            "each epoch, run 'fscdata make-negatives %s --recipe %s --variants %s --overwrite'",
            f"{epochs:,}",
            ", ".join(f"{count} of {style}" for style, count in few.items()),
            config.data[0],
            ",".join(few),
            min(epochs, 127),
        )


def _opening(
    config: Config, clip: Clip, source: Source, steps: int, coverage: list[Coverage]
) -> str:
    negatives = ", ".join(f"{found.style} {found.captions:.1%}" for found in coverage)
    return (
        f"{clip.name} ({'QuickGELU' if clip.quick_gelu else 'GELU'}, weights: "
        f"{config.pretrained}); {source.captions:,} captions, {steps:,} steps of "
        f"{config.batch_size}; captions with a negative: {negatives or 'not requested'}"
    )
