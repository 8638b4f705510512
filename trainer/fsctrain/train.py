"""The training loop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from fscdata.contract import FsckitError, printable
from fsctrain.checkpoint import loading_line, save_checkpoint
from fsctrain.config import Config, dump_config
from fsctrain.data import BadImages, Batch, Batches, TrainingData, load_batches, read_data
from fsctrain.losses import Features, load_loss
from fsctrain.metrics import Metrics, Record
from fsctrain.model import (
    Clip,
    OpenClip,
    check_towers,
    create_model,
    encode_images,
    encode_texts,
    end_positions,
)
from fsctrain.optim import learning_rate, make_optimizer

log = logging.getLogger("fsctrain")

MAX_LOGIT_SCALE = math.log(100)
DEVICES = ("cpu", "cuda", "mps")
CHECKPOINT = "checkpoint"

Evaluate = Callable[[OpenClip, int], dict[str, float]]
Watch = Callable[[Record, int], None]


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: where its config, metrics and checkpoint lie.
        checkpoint: the weights.
        loading_line: the Python that loads them.
        steps: how many there were.
        bad_images: pictures left out, by reason.
    """

    folder: Path
    checkpoint: Path
    loading_line: str
    steps: int
    bad_images: dict[str, int]


def train(
    config: Config,
    *,
    evaluate: Evaluate | None = None,
    evaluate_every: int = 0,
    watch: Watch | None = None,
) -> Run:
    """Fine-tune a model as `config` says, into a new folder `config.out / config.name`.

    The folder gets `config.yaml`, `metrics.jsonl`, `bad_images.jsonl` (if there are any) and
    `checkpoint/`. On a CPU two runs of one config give the same weights, bit for bit. Torch's
    global generator is seeded.

    Args:
        config: the settings.
        evaluate: called with the open_clip model (in eval mode, without gradients) and the
            number of steps done; its scores go into metrics.jsonl.
        evaluate_every: steps between two calls; the first comes before the first step, one
            more after the last. 0: only after the last.
        watch: called with every record of metrics.jsonl and the number of steps in all.

    Raises:
        FsckitError: a mistake in the settings or the data; the loss is no longer finite.
    """
    device, bf16 = _device(config)
    compute_loss = load_loss(config)
    local = config.local_weight > 0
    folder = config.out / config.name
    _refuse_to_overwrite(folder)

    torch.manual_seed(config.seed)
    clip = create_model(config.model, config.pretrained, device)
    model = clip.model
    check_towers(model, clip.name, local=local)
    data = read_data(Path(config.data[0]), config.styles, clip)
    if config.styles and not any(data.coverage().values()):
        raise FsckitError(
            f"{config.data[0]}: no caption has a negative of style "
            f"{' or '.join(config.styles)}; see why with 'fscdata inspect {config.data[0]}', or name others with --styles"
        )
    batches = Batches(
        data, config.batch_size, _image_size(model), crop_scale=config.crop_scale, seed=config.seed
    )
    steps = config.steps or config.epochs * batches.steps_per_epoch
    log.info("%s", _opening(config, clip, data, steps))
    log.info("%s in %s", device, "bf16" if bf16 else "fp32")

    optimizer = make_optimizer(model, config)
    folder.mkdir(parents=True)
    _write_config(folder, config)
    bad_images = BadImages(folder / "bad_images.jsonl")
    metrics = Metrics(folder / "metrics.jsonl", config.styles, lambda r: watch and watch(r, steps))
    loader = load_batches(batches, steps, workers=config.workers, pin_memory=device.type == "cuda")

    model.train()
    for step, (batch, waited) in enumerate(_timed(loader)):
        if evaluate and evaluate_every and step % evaluate_every == 0:
            metrics.scores(step, _evaluate(evaluate, model, step))
        started = time.perf_counter()
        bad_images.count(batch.bad, len(batch) + len(batch.bad))
        if not len(batch):
            continue  # every picture of the batch was bad

        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            features = forward(model, batch.to(device), local=local)
        losses = compute_loss(features, config)
        _check_finite(losses["loss"], step, batch.keys)

        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        rate = learning_rate(step, steps, config)
        _update(model, optimizer, rate, config.grad_clip_norm)

        metrics.add(losses, features, waited, time.perf_counter() - started)
        if (step + 1) % config.log_every == 0:
            metrics.log(step + 1, step // batches.steps_per_epoch, rate)

    bad_images.check_some_good()
    last = steps - 1
    metrics.log(steps, last // batches.steps_per_epoch, learning_rate(last, steps, config))
    if evaluate:
        metrics.scores(steps, _evaluate(evaluate, model, steps))
    weights = save_checkpoint(folder / CHECKPOINT, clip)
    return Run(folder, weights, loading_line(clip, weights), steps, dict(bad_images.reasons))


def forward(model: OpenClip, batch: Batch, *, local: bool) -> Features:
    """A batch's features; captions and the negatives that there are go through the text tower
    together, in one pass.
    """
    images, image_tokens = encode_images(model, batch.images, local=local)
    mask = batch.negative_mask  # [B, N]
    rows, styles = mask.shape
    tokens = torch.cat([batch.tokens, batch.negative_tokens[mask]])  # [B + M, L]
    texts, words = encode_texts(model, tokens, local=local)

    negatives = texts.new_zeros(rows, styles, texts.shape[1])
    negatives = negatives.masked_scatter(mask[..., None], texts[rows:])
    text_tokens = text_mask = None
    if words is not None:
        there = F.pad(mask, (1, 0), value=True)  # [B, 1 + N]
        # In the order of `tokens`: the captions first, then the negatives row by row.
        order = there.new_zeros(there.shape, dtype=torch.long)
        order[:, 0] = torch.arange(rows, device=order.device)
        order[:, 1:][mask] = torch.arange(rows, len(tokens), device=order.device)
        text_tokens = words[order]  # [B, 1 + N, L, D]; a negative that is not there: any text
        position = torch.arange(tokens.shape[1], device=tokens.device)
        inside = (position > 0) & (position <= end_positions(model, tokens)[:, None])  # [B + M, L]
        text_mask = inside[order] & there[..., None]
    return Features(
        images=images,
        texts=texts[:rows],
        negatives=negatives,
        negative_mask=mask,
        logit_scale=model.logit_scale.exp(),
        image_tokens=image_tokens,
        text_tokens=text_tokens,
        text_token_mask=text_mask,
    )


def _update(model: OpenClip, optimizer: Optimizer, rate: float, max_norm: float | None) -> None:
    """One step of the optimizer, at this learning rate; the logit scale is kept in its range."""
    if max_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    with torch.no_grad():
        model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)


def _evaluate(evaluate: Evaluate, model: OpenClip, step: int) -> dict[str, float]:
    model.eval()
    with torch.no_grad():
        scores = evaluate(model, step)
    model.train()
    return scores


def _timed(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float]]:
    """Each batch with the seconds that were spent waiting for it."""
    started = time.perf_counter()
    for batch in batches:
        yield batch, time.perf_counter() - started
        started = time.perf_counter()


def _check_finite(loss: Tensor, step: int, keys: list[str]) -> None:
    if not torch.isfinite(loss):
        shown = ", ".join(printable(key) for key in keys[:8])
        more = f" and {len(keys) - 8} more" if len(keys) > 8 else ""
        raise FsckitError(
            f"the loss is {loss.item()} at step {step + 1}, in the batch of the samples {shown}"
            f"{more}; lower --lr, or set --grad-clip-norm"
        )


def _device(config: Config) -> tuple[torch.device, bool]:
    """The device, and whether to compute in bf16."""
    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
        found = device.type in DEVICES
    except (RuntimeError, AssertionError, NotImplementedError):
        found = False
    if not found:
        raise FsckitError(f"--device {name}: torch finds no such device here; give cpu")
    if config.precision != "auto":
        return device, config.precision == "bf16"
    return device, device.type == "cuda" and torch.cuda.is_bf16_supported()


def _image_size(model: OpenClip) -> tuple[int, int]:
    size: Any = model.visual.image_size
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _refuse_to_overwrite(folder: Path) -> None:
    if (folder / CHECKPOINT).exists():
        raise FsckitError(f"{folder}: there is a run of this name; give another with --name")
    if folder.exists():
        raise FsckitError(
            f"{folder}: there is an unfinished run of this name; delete the folder, or give "
            f"another name with --name"
        )


def _write_config(folder: Path, config: Config) -> None:
    path = folder / "config.yaml"
    path.write_text(
        f"# fsctrain run --recipe {path} --name NAME\n{dump_config(config)}", encoding="utf-8"
    )


def _opening(config: Config, clip: Clip, data: TrainingData, steps: int) -> str:
    negatives = ", ".join(f"{style} {share:.1%}" for style, share in data.coverage().items())
    return (
        f"{clip.name} ({'QuickGELU' if clip.quick_gelu else 'GELU'}, weights: "
        f"{config.pretrained}); {len(data):,} captions, {steps:,} steps of {config.batch_size}; "
        f"captions with a negative: {negatives or 'none asked for'}"
    )
