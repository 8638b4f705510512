"""metrics.jsonl: what a run measured of itself, one JSON object a line."""

from __future__ import annotations

import json
import math
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fscdata.base.errors import FsckitError
from fscdata.base.files import write_text
from fscdata.base.paths import access
from fsctrain.losses import Features

Record = dict[str, Any]
Reduce = Callable[[Tensor], Tensor]


def _alone(values: Tensor) -> Tensor:
    """The sum, or the maximum, over one rank."""
    return values


class Metrics:
    """Gathers the steps between two lines; nothing is copied from the device until a line is due.

    A line of training has the means since the last one: the losses, `grad_norm` (before clipping;
    null where it is not finite, as fp16 has it at times), `with_negatives` (share of rows with a
    negative), `prefers_true` (for each style how often an image is nearer to its caption than to
    its negative, null where there was none), `data_seconds` and `step_seconds` (waited for the
    data of a step, and taken by the rest of it), `samples_per_second` and `tokens_per_second`; and
    the present step, epoch, rate, logit scale and `peak_memory_gb` (10⁹ bytes: what tensors held
    on a GPU at most, else the process). A line of an evaluation has `step` and `scores`; its time
    counts for none of them.

    Over several ranks losses, rows and tokens are summed, times are means, the memory is the
    largest. `log` is called by all of them alike, and one of them writes.
    """

    def __init__(
        self,
        path: Path,
        styles: tuple[str, ...],
        watch: Callable[[Record], object],
        *,
        reduce: Reduce = _alone,
        reduce_max: Reduce = _alone,
        writes: bool = True,
        resumed_at: int | None = None,
    ) -> None:
        """Open a run's metrics.

        Args:
            path: the file; lines are added to it.
            styles: those of the features' negatives, in their order.
            watch: called with every record that is written.
            reduce: the sum over all ranks of a tensor [n], float32 on the losses' device.
            reduce_max: the same with the maximum.
            writes: whether this rank writes.
            resumed_at: the steps that a resumed run has behind it; the lines that the killed run
                wrote of later ones are removed.

        Raises:
            FsckitError: the file of a resumed run holds a line that is none of ours.
        """
        self._path = path
        self._styles = styles
        self._watch = watch
        self._reduce = reduce
        self._reduce_max = reduce_max
        self._writes = writes
        if writes and resumed_at is not None and path.exists():
            _cut(path, resumed_at)
        self._clear()

    def _clear(self) -> None:
        self._names: list[str] = []  # of the losses
        self._sums: Tensor | None = None  # on the device: losses, norm, rows with, preferred, of
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
        """Take note of a step.

        Args:
            losses: this rank's parts of the losses, which sum over the ranks to the losses.
            features: those of this rank's rows.
            tokens: how many tokens this rank's text tower has encoded.
            waited, took: seconds.
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
        """Write a line for the steps noted since the last; none if there were none."""
        if self._sums is None:
            return
        device = self._sums.device
        host = torch.tensor(self._host, device=device)
        memory = self._reduce_max(torch.tensor([_peak_memory(device)], device=device))
        sums = self._reduce(torch.cat([self._sums, host])).tolist()
        if self._writes:
            self._write(self._record(sums, step, epoch, lr) | {"peak_memory_gb": memory.item()})
        self._clear()

    def _record(self, sums: list[float], step: int, epoch: int, lr: float) -> Record:
        """A line of training, of sums over the steps and the ranks."""
        names, styles = self._names, len(self._styles)
        losses, (norm, with_negatives) = sums[: len(names)], sums[len(names) : len(names) + 2]
        preferred, of = sums[len(names) + 2 : -5 - styles], sums[-5 - styles : -5]
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
                for style, hits, total in zip(self._styles, preferred, of, strict=True)
            },
            "samples_per_second": rows / seconds,
            "tokens_per_second": tokens / seconds,
            "data_seconds": waited / rank_steps,
            "step_seconds": took / rank_steps,
        }

    def scores(self, step: int, scores: dict[str, float]) -> None:
        """Write a line of an evaluation."""
        if self._writes:
            self._write({"step": step, "scores": scores})

    def _write(self, record: Record) -> None:
        record = _finite(record)
        with access(self._path, "written"), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")
        self._watch(record)


def _finite(record: Record) -> Record:
    """The record with None for each number that is not finite: JSON has none of these."""
    return {
        name: _finite(value)
        if isinstance(value, dict)
        else None
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for name, value in record.items()
    }


def read_metrics(path: Path) -> list[Record]:
    """The records of a metrics.jsonl; the half line that a killed run may end with is none.

    Raises:
        FsckitError: there is no such file, or one of its lines is no record.
    """
    try:
        *lines, _ = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        raise FsckitError(f"{path}: there are no metrics of a run") from None
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            record["step"] = int(record["step"])
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            raise FsckitError(f"{path}: line {number} is no record of metrics") from None
        records.append(record)
    return records


def _cut(path: Path, step: int) -> None:
    """Leave the lines of the first `step` steps; the file is replaced as a whole.

    The model is scored after the state of a step was saved, so these scores come again.
    """
    kept = [r for r in read_metrics(path) if r["step"] + ("scores" in r) <= step]
    write_text(path, "".join(json.dumps(record) + "\n" for record in kept))


def _peak_memory(device: torch.device) -> float:
    """The most that was held so far, in 10⁹ bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
