"""metrics.jsonl: what a run measured of itself, one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsctrain.losses import Features

Record = dict[str, Any]


class Metrics:
    """Gathers the steps between two lines; nothing is copied from the device until a line is due.

    A line of training has the means since the last one: the losses, `with_negatives` (share of
    rows with a negative), `prefers_true` (for each style how often an image is nearer to its
    caption than to its negative, null where there was none), seconds a step and seconds waited
    for its data, samples per second; and the present step, epoch, rate and logit scale. A line
    of an evaluation has `step` and `scores`; its time counts for none of them.
    """

    def __init__(
        self, path: Path, styles: tuple[str, ...], watch: Callable[[Record], object]
    ) -> None:
        self._path = path
        self._styles = styles
        self._watch = watch
        self._clear()

    def _clear(self) -> None:
        self._losses: list[dict[str, Tensor]] = []
        self._preferred: list[Tensor] = []  # each [2, N]: how many prefer the truth, of how many
        self._rows = 0
        self._with_negatives: list[Tensor] = []
        self._waited: list[float] = []
        self._took: list[float] = []
        self._logit_scale: Tensor | None = None

    @torch.no_grad()
    def add(
        self, losses: dict[str, Tensor], features: Features, waited: float, took: float
    ) -> None:
        """Take note of a step: its losses, its features, seconds waited and taken."""
        mask = features.negative_mask  # [B, N]
        true = (features.images * features.texts).sum(1, keepdim=True)  # [B, 1]
        false = torch.einsum("bd,bnd->bn", features.images, features.negatives)
        preferred = ((true > false) & mask).sum(0)
        self._losses.append({name: loss.detach() for name, loss in losses.items()})
        self._preferred.append(torch.stack([preferred, mask.sum(0)]))
        self._with_negatives.append(mask.any(1).sum())
        self._rows += len(mask)
        self._waited.append(waited)
        self._took.append(took)
        self._logit_scale = features.logit_scale.detach()

    def log(self, step: int, epoch: int, lr: float) -> None:
        """Write a line for the steps noted since the last; none if all of them were empty."""
        if not self._losses or self._logit_scale is None:
            return
        preferred, of = torch.stack(self._preferred).sum(0).tolist()
        count = len(self._losses)
        losses = {
            name: float(torch.stack([loss[name] for loss in self._losses]).mean())
            for name in self._losses[0]
        }
        self._write(
            {
                "step": step,
                "epoch": epoch,
                **losses,
                "lr": lr,
                "logit_scale": float(self._logit_scale),
                "with_negatives": int(torch.stack(self._with_negatives).sum()) / self._rows,
                "prefers_true": {
                    style: hits / total if total else None
                    for style, hits, total in zip(self._styles, preferred, of, strict=True)
                },
                "samples_per_second": self._rows / (sum(self._waited) + sum(self._took)),
                "data_seconds": sum(self._waited) / count,
                "step_seconds": sum(self._took) / count,
            }
        )
        self._clear()

    def scores(self, step: int, scores: dict[str, float]) -> None:
        """Write a line of an evaluation."""
        self._write({"step": step, "scores": scores})

    def _write(self, record: Record) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self._watch(record)
