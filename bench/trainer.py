"""Speed of a training step relative to padded captions and a local loss in a loop.

    python bench/trainer.py

Both forms are whole steps of fsc-clip with three negatives per sample on ViT-B-32 with random
weights: forward, all loss terms, backward, AdamW (with rate 0, so that both see the same weights
and their losses can be compared). The padded form follows the published trainer. The captions are
Flickr8k's if shared/data exists beside the checkout, else the tests'; pixels are random. On a CPU:
batch 16 in fp32, and each form's peak memory in its own process. On a GPU: batch 256 in bf16. The
forms alternate on the same batches; the last line is the ratio of their best times.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import common  # noqa: F401  (finds tests/support)
from fscdata.steps.expected import Settings
from fscdata.steps.negatives import make_negatives
from fsctrain.config import Config
from fsctrain.data import Batch, Batches, read_data
from fsctrain.forward import forward
from fsctrain.losses import GlobalBatch, load_loss
from fsctrain.model import OpenClip, create_model, encode_images, encode_texts, end_positions
from fsctrain.optim import make_optimizer
from support.captions import FLICKR_CAPTIONS, ODD, TEMPLATES
from support.tars import write_shards

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
BATCH = 256 if CUDA else 16
ROUNDS = 10 if CUDA else 3
BATCHES = 4
STYLES = ("negclip", "replace", "shuffle-2")
CONTEXT = 77

Losses = dict[str, Tensor]
Form = Callable[[OpenClip, Batch, Config], Losses]


def packed(model: OpenClip, batch: Batch, config: Config) -> Losses:
    """As `fsctrain run` does it."""
    features = forward(model, batch, local=True)
    return load_loss(config)(features, GlobalBatch.single_rank(features), config)


def padded(model: OpenClip, batch: Batch, config: Config) -> Losses:
    """As the published trainer does it: texts padded to 77 tokens, one style after another."""
    images, patches = encode_images(model, batch.images, local=True)  # [B, D], [B, P, D]
    assert patches is not None
    scale, mask = model.logit_scale.exp(), batch.negative_mask
    tokens = torch.cat([batch.tokens[:, None], batch.negative_tokens], dim=1)  # [B, 1 + N, L]
    tokens = F.pad(tokens, (0, CONTEXT - tokens.shape[2])).flatten(0, 1)
    texts, words = encode_texts(model, tokens, local=True)
    assert words is not None
    shape = (len(mask), 1 + mask.shape[1])
    texts, words = texts.view(*shape, -1), words.view(*shape, CONTEXT, -1)
    ends = end_positions(model, tokens).view(shape)

    logits = scale * images @ texts[:, 0].T
    labels = torch.arange(len(logits), device=logits.device)
    clip = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    of_texts, of_words = [], []
    for c in range(shape[1]):
        of_texts.append(scale * (images * texts[:, c]).sum(1))
        of_words.append(word_scores(patches, words[:, c], ends[:, c], scale))
    settings = mask, config.focal_gamma, config.label_smoothing
    global_ = focal_loss(torch.stack(of_texts, dim=1), *settings)
    local = focal_loss(torch.stack(of_words, dim=1), *settings)
    loss = clip + config.global_weight * global_ + config.local_weight * local
    return {"loss": loss, "clip": clip, "global": global_, "local": local}


def word_scores(patches: Tensor, words: Tensor, ends: Tensor, scale: Tensor) -> Tensor:
    """The local score [B] of images [B, P, D] and texts [B, 77, D] that end at `ends` [B]."""
    similarity = torch.einsum("btd,bpd->btp", words, patches).detach()
    low, high = similarity.amin(2, keepdim=True), similarity.amax(2, keepdim=True)
    weights = (similarity - low) / (high - low)
    weights = weights / weights.sum(2, keepdim=True)
    seen = F.normalize(torch.einsum("btp,bpd->btd", weights, patches), dim=2)
    scores = scale * (seen * F.normalize(words, dim=2)).sum(2)  # [B, 77]
    position = torch.arange(words.shape[1], device=words.device)
    inside = (position > 0) & (position <= ends[:, None])
    return scores.masked_fill(~inside, -torch.inf).logsumexp(1)


def focal_loss(scores: Tensor, mask: Tensor, gamma: float, alpha: float) -> Tensor:
    """The mean over rows with a negative, of scores [B, 1 + N] and mask [B, N]."""
    losses = []
    for row, there in zip(scores, F.pad(mask, (1, 0), value=True), strict=True):
        p = row[there].softmax(0)
        y = torch.full_like(p, alpha / len(p))
        y[0] += 1 - alpha
        if len(p) > 1:
            losses.append((y * (1 - p) ** gamma * -p.log()).sum())
    return torch.stack(losses).mean()


FORMS: dict[str, Form] = {"padded": padded, "packed": packed}


class Bench:
    """A model, its optimizer and some batches."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        clip = create_model("ViT-B-32", "none", DEVICE)
        self.model = clip.model.train()
        with tempfile.TemporaryDirectory() as folder:
            write_data(Path(folder))
            self.config = Config(
                data=(folder,), loss="fsc-clip", styles=STYLES, global_weight=0.5, local_weight=0.2
            )
            data = read_data(self.config.data, (), STYLES, clip)
            batches = Batches(data, BATCH, (224, 224), crop_scale=(1, 1), seed=0)
            self.batches = [self._with_pixels(batches[i]) for i in range(BATCHES)]
        self.optimizer = make_optimizer(self.model, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0

    @staticmethod
    def _with_pixels(batch: Batch) -> Batch:
        pixels = torch.randint(0, 256, batch.images.shape, dtype=torch.uint8)
        return replace(batch, images=pixels)

    def step(self, form: str, number: int) -> tuple[dict[str, float], float]:
        """One step on batch `number`: its losses and seconds."""
        batch = self.batches[number % BATCHES]
        _wait()
        started = time.perf_counter()
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=CUDA):
            losses = FORMS[form](self.model, batch, self.config)
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        self.optimizer.step()
        _wait()
        taken = time.perf_counter() - started
        return {name: loss.item() for name, loss in losses.items()}, taken


def _wait() -> None:
    if CUDA:
        torch.cuda.synchronize()


def write_data(data: Path) -> None:
    """A data set of captions with their negatives."""
    lines = [*TEMPLATES, *ODD]
    if FLICKR_CAPTIONS.is_file():
        lines = FLICKR_CAPTIONS.read_text().splitlines()
    captions = islice(cycle(lines), BATCHES * BATCH)
    write_shards(data, [[(f"{i:06d}", [line.strip()]) for i, line in enumerate(captions)]])
    make_negatives(data, Settings("fsc-clip"))


def peak_memory(form: str) -> float:
    """Peak memory in GB of two steps; on a CPU, call it in its own process."""
    bench = Bench()
    if CUDA:
        torch.cuda.reset_peak_memory_stats()
    for number in range(2):
        bench.step(form, number)
    if CUDA:
        return torch.cuda.max_memory_allocated() / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def main() -> None:
    """Run the benchmark."""
    spawn = multiprocessing.get_context("spawn")
    memory = {}
    for form in FORMS:
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            memory[form] = pool.submit(peak_memory, form).result()

    bench = Bench()
    tolerance = 3e-2 if CUDA else 1e-4
    times: dict[str, list[float]] = {form: [] for form in FORMS}
    for number in range(1 + ROUNDS):
        losses = {}
        for form in FORMS:
            losses[form], taken = bench.step(form, number)
            if number:  # the first round warms up
                times[form].append(taken)
        for name, expected in losses["padded"].items():
            found = losses["packed"][name]
            assert abs(found - expected) <= tolerance * abs(expected), (name, found, expected)

    where = torch.cuda.get_device_name() if CUDA else f"CPU, {torch.get_num_threads()} threads"
    print(f"{where}: ViT-B-32, batch {BATCH}, {len(STYLES)} negatives per sample, {ROUNDS} rounds")
    for form, values in times.items():
        parts = "  ".join(f"{name} {value:.5f}" for name, value in losses[form].items())
        print(f"{form}: {BATCH / min(values):7.2f} samples/s  {memory[form]:5.1f} GB  {parts}")
    print(f"step-vs-padded {min(times['padded']) / min(times['packed']):.2f}")


if __name__ == "__main__":
    main()
