"""metrics.jsonl: a run's measurements, one JSON object per line."""

from __future__ import annotations

import json
import math
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from fscdata.base.files import write_text
from fscdata.base.paths import access
from fsctrain.distributed import Ranks
from fsctrain.losses import Features
from fsctrain.records import Record, read_metrics

ONE_RANK = Ranks()


class Metrics:
    """Accumulates the steps between two lines; reads from the device only when a line is due.

    A training line has the means since the last line: the losses, `grad_norm` (before clipping;
    null if not finite, as may happen with fp16), `with_negatives` (share of rows with a negative),
    `prefers_true` (by style, how often an image is nearer to its caption than to its negative;
    null without negatives), `data_seconds` and `step_seconds` (the wait for a step's data, and the
    rest of the step), `samples_per_second` and `tokens_per_second`. It also has the current step,
    epoch, learning rate, logit scale and `peak_memory_gb` (10⁹ bytes; of tensors on
    a GPU, else of the process). A scores line has `step` and `scores`; scoring time is not counted.

    Over several ranks, losses, rows and tokens are summed, times are averaged, and memory is the
    maximum. All ranks call `log`; the first one writes.
    """

    def __init__(
        self,
        path: Path,
        styles: tuple[str, ...],
        watch: Callable[[Record], object],
        *,
        ranks: Ranks = ONE_RANK,
        resumed_at: int | None = None,
    ) -> None:
        """Open a run's metrics.

        Args:
            path: the file; lines are appended.
            styles: the styles of the features' negatives, in order.
            watch: called with every record that is written.
            ranks: the ranks of the run.
            resumed_at: the step at which the run resumes; lines of later steps are removed.

        Raises:
            FsckitError: the resumed run's file has a line that is not a metrics record.
        """
        self._path = path
        self._styles = styles
        self._watch = watch
        self._ranks = ranks
        if ranks.first and resumed_at is not None and path.exists():
            _cut(path, resumed_at)
        self._clear()

    def _clear(self) -> None:
        self._names: list[str] = []  # of the losses
        # On the device: losses, norm, rows with negatives, and by style: preferred, negatives.
        self._sums: Tensor | None = None
        self._host = [0.0] * 5  # steps, rows, tokens, seconds waited, seconds taken
        self._logit_scale = torch.zeros(())

    @torch.no_grad()
    def add(
        self,
        losses: dict[str, Tensor],
        features: Features,
        *,
        tokens: int,
        waited: float,
        took: float,
        grad_norm: Tensor,
    ) -> None:
        """Add a step.

        Args:
            losses: this rank's parts of the losses; their sums over the ranks are the losses.
            features: the features of this rank's rows.
            tokens: number of tokens that this rank's text tower encoded.
            waited: seconds spent waiting for the batch.
            took: seconds for the rest of the step.
            grad_norm: norm of the whole gradient, equal on all ranks.
        """
        mask = features.negative_mask  # [B, N]
        true = (features.images * features.texts).sum(1, keepdim=True)  # [B, 1]
        false = torch.einsum("bd,bnd->bn", features.images, features.negatives)
        preferred = ((true > false) & mask).sum(0)  # [N]
        scalars = torch.stack([*losses.values(), grad_norm, mask.any(1).sum()]).detach()
        sums = torch.cat([scalars.float(), preferred, mask.sum(0)])
        self._names = list(losses)
        self._sums = sums if self._sums is None else self._sums + sums
        step = (1, len(mask), tokens, waited, took)
        self._host = [total + value for total, value in zip(self._host, step, strict=True)]
        self._logit_scale = features.logit_scale.detach()

    def log(self, step: int, epoch: int, lr: float) -> None:
        """Write a line for the steps since the last line, if any."""
        if self._sums is None:
            return
        device = self._sums.device
        host = torch.tensor(self._host, device=device)
        memory = self._ranks.max(torch.tensor([_peak_memory(device)], device=device))
        sums = self._ranks.sum(torch.cat([self._sums, host])).tolist()
        if self._ranks.first:
            self._write(self._record(sums, step, epoch, lr) | {"peak_memory_gb": memory.item()})
        self._clear()

    def _record(self, sums: list[float], step: int, epoch: int, lr: float) -> Record:
        """A training line from sums over the steps and the ranks."""
        names, styles = self._names, len(self._styles)
        losses, (norm, with_negatives) = sums[: len(names)], sums[len(names) : len(names) + 2]
        preferred, negatives = sums[len(names) + 2 : -5 - styles], sums[-5 - styles : -5]
        rank_steps, rows, tokens, waited, took = sums[-5:]
        steps = self._host[0]
        seconds = (waited + took) * steps / rank_steps  # mean over the ranks
        return {
            "step": step,
            "epoch": epoch,
            **{name: loss / steps for name, loss in zip(names, losses, strict=True)},
            "lr": lr,
            "grad_norm": norm / rank_steps,
            "logit_scale": float(self._logit_scale),
            "with_negatives": with_negatives / max(rows, 1),
            "prefers_true": {
                style: hits / total if total else None
                for style, hits, total in zip(self._styles, preferred, negatives, strict=True)
            },
            "samples_per_second": rows / seconds,
            "tokens_per_second": tokens / seconds,
            "data_seconds": waited / rank_steps,
            "step_seconds": took / rank_steps,
        }

    def scores(self, step: int, scores: dict[str, float]) -> None:
        """Write a scores line."""
        if self._ranks.first:
            self._write({"step": step, "scores": scores})

    def _write(self, record: Record) -> None:
        record = _finite(record)
        with access(self._path, "written"), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")
        self._watch(record)


def _finite(record: Record) -> Record:
    """The record with None for non-finite numbers, which JSON cannot express."""
    return {
        name: _finite(value)
        if isinstance(value, dict)
        else None
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for name, value in record.items()
    }


def _cut(path: Path, step: int) -> None:
    """Keep the lines of the first `step` steps.

    Scores at `step` are removed too: a run saves its state before scoring, so it scores again.
    """
    kept = [r for r in read_metrics(path) if r["step"] + ("scores" in r) <= step]
    write_text(path, "".join(json.dumps(record) + "\n" for record in kept))


def _peak_memory(device: torch.device) -> float:
    """The peak memory so far, in 10⁹ bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
