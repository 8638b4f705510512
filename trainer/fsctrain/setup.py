"""Everything that a run needs before its first step, each part checked."""

from __future__ import annotations

import logging
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
from fsctrain.data import BadImages, Source, open_source
from fsctrain.distributed import Ranks
from fsctrain.losses import load_loss
from fsctrain.model import Clip, OpenClip, check_towers, compile_towers, create_model
from fsctrain.model.freeze import freeze
from fsctrain.model.lora import apply_lora
from fsctrain.optim import make_optimizer
from fsctrain.run_folder import BAD_IMAGES
from fsctrain.state import Stateful, TrainState
from fsctrain.step import Gradients
from fsctrain.trackers import check_trackers
from fsctrain.validation import EarlyStopping, validation_digest

log = logging.getLogger("fsctrain")

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Training:
    """The parts of a run that is about to begin or to go on.

    Attributes:
        clip: the model, frozen and given its LoRA as the settings say.
        base_digest: `weights_digest` of what it was before.
        source: the data.
        steps: how many there are in all.
        gradients: computes a step's.
        optimizer, scaler: the scaler does nothing but for fp16.
        bad_images: counts pictures that could not be used.
        early_stopping: knows the best score.
        state: what is saved of all this.
        fp16: whether the gradient's norm may be infinite at times.
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
    """Make the parts of a run; nothing is written.

    Raises:
        FsckitError: a mistake in the settings or the data.
    """
    precision = _precision(config, device)
    compute_loss = load_loss(config)
    ranks.on_first(lambda: check_trackers(config))
    belongs_to = _look_at_folders(config)  # before weights are fetched
    torch.manual_seed(config.seed)
    clip = create_model(config.model, config.pretrained, device)
    base_digest = weights_digest(clip.model.state_dict())
    check_towers(clip.model, clip.name, local=config.local_weight > 0)
    _check_batch_norms(clip, config, ranks)
    _choose_trained(clip.model, config)
    if config.pretrained != "none" or not all(p.requires_grad for p in clip.model.parameters()):
        # Random ones that are trained are in the state, and differ between kinds of CPUs.
        belongs_to["weights that it began with"] = base_digest
    source = open_source(config, clip, image_size(clip.model), ranks.rank, ranks.size)
    _check_negatives(config, source)
    steps = config.steps or config.epochs * source.steps_per_epoch
    _check_schedule(config, steps, ranks)
    log.info("%s", _opening(config, clip, source, steps))
    several = f", {ranks.size} ranks" if ranks.size > 1 else ""
    log.info("%s in %s%s", device, precision, several)

    optimizer = make_optimizer(clip.model, config)
    scaler = GradScaler(device.type, enabled=precision == "fp16")
    bad_images = BadImages(folder / BAD_IMAGES, config.max_bad, writes=ranks.first)
    early_stopping = EarlyStopping(config.patience)
    parts: dict[str, Stateful] = {
        "scaler": scaler,
        "bad_images": bad_images,
        "early_stopping": early_stopping,
    }
    if ranks.size > 1:
        torch.manual_seed(config.seed + 1 + ranks.rank)  # dropout is each rank's own
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
    """Height and width of the pictures that a model takes."""
    size: Any = model.visual.image_size
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _choose_trained(model: OpenClip, config: Config) -> None:
    """Freeze what is not trained, add what is."""
    freeze(model, config.freeze_image, config.freeze_text)
    if config.lora_rank is not None:
        apply_lora(model, config.lora_rank, config.lora_alpha)
    if config.grad_checkpointing:
        _set_grad_checkpointing(model)
    if config.compile:
        compile_towers(model)


def _set_grad_checkpointing(model: OpenClip) -> None:
    if any(isinstance(module, CustomResidualAttentionBlock) for module in model.modules()):
        raise FsckitError(
            "--grad-checkpointing: open_clip cannot checkpoint this model's blocks, which have "
            "norms of their own in attention; leave it out"
        )
    model.set_grad_checkpointing()


def _look_at_folders(config: Config) -> dict[str, str]:
    """The digest of the validation data, if there are any.

    Raises FsckitError where a data set is not there, or has no tar.
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
    """Batch norms make a row's features depend on the rows that are encoded beside it."""
    norms = any(isinstance(m, torch.nn.BatchNorm2d) for m in clip.model.modules())
    if norms and config.freeze_image != "all" and (config.micro_batch_size or ranks.size > 1):
        raise FsckitError(
            f"model {clip.name} has batch norms, so a batch cannot be cut up; run it on one rank "
            f"without --micro-batch-size, or give --freeze-image all"
        )


def _check_schedule(config: Config, steps: int, ranks: Ranks) -> None:
    for mistake in schedule_conflicts(config, steps, f"the run's {steps:,} steps"):
        raise FsckitError(mistake)
    if config.warmup > steps and ranks.first:
        log.warning(
            "--warmup %s is longer than the run of %s steps, which ends before the rate is %s",
            f"{config.warmup:,}",
            f"{steps:,}",
            f"{config.lr:g}",
        )


def _check_negatives(config: Config, source: Source) -> None:
    if config.styles and not any(source.coverage().values()):
        raise FsckitError(
            f"{', '.join(config.data)}: no caption has a negative of style "
            f"{' or '.join(config.styles)}; see why with 'fscdata inspect {config.data[0]}', or "
            f"name others with --styles"
        )


def _opening(config: Config, clip: Clip, source: Source, steps: int) -> str:
    negatives = ", ".join(f"{style} {share:.1%}" for style, share in source.coverage().items())
    return (
        f"{clip.name} ({'QuickGELU' if clip.quick_gelu else 'GELU'}, weights: "
        f"{config.pretrained}); {source.captions:,} captions, {steps:,} steps of "
        f"{config.batch_size}; captions with a negative: {negatives or 'none asked for'}"
    )
