"""The demo's figure: two learning curves, and four scenes with each model's preferences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

KINDS = ("object swap", "attribute swap")
COLOURS = {"clip": "#7f7f7f", "fsc-clip": "#1f77b4", "negclip": "#d95f02"}
Curve = list[tuple[int, dict[str, float]]]


@dataclass(frozen=True)
class ShownScene:
    """An image, its caption, and for each negative, which models prefer the caption."""

    image: np.ndarray  # [48, 48, 3] uint8
    caption: str
    negatives: list[tuple[str, str, dict[str, bool]]]  # style, text, recipe → prefers the caption


def draw_figure(path: Path, curves: dict[str, list[Curve]], scenes: list[ShownScene]) -> None:
    """Draw accuracy per step with the chance level on the left, the scenes on the right."""
    figure = pyplot.figure(figsize=(15, 7.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.15))
    for axes, kind in zip(left.subplots(2, 1), KINDS, strict=True):
        _draw_curves(axes, kind, curves)
    _draw_scenes(right, scenes, list(curves))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw_curves(axes: Axes, kind: str, curves: dict[str, list[Curve]]) -> None:
    for recipe, runs in curves.items():
        for i, run in enumerate(runs):
            steps = [step for step, _ in run]
            scores = [scores[kind] for _, scores in run]
            label = recipe if i == 0 else None
            axes.plot(steps, scores, color=COLOURS[recipe], label=label, linewidth=2)
    axes.axhline(0.5, color="black", linestyle=":", linewidth=1)
    axes.text(0, 0.505, "chance", fontsize=8, va="bottom")
    axes.set(title=f"{kind}: prefers the true caption", ylim=(0.4, 1.02), ylabel="accuracy")
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")


def _draw_scenes(figure: SubFigure, scenes: list[ShownScene], recipes: list[str]) -> None:
    figure.suptitle("four test scenes: does each model prefer the caption to its negative?")
    rows = figure.subplots(len(scenes), 2, width_ratios=(1, 5))
    for (image, text), scene in zip(rows, scenes, strict=True):
        image.imshow(scene.image, interpolation="nearest")
        image.axis("off")
        text.axis("off")
        text.set(xlim=(0, 1), ylim=(0, 1))
        text.text(0, 0.95, scene.caption, weight="bold", fontsize=10, va="top")
        for i, (style, negative, prefers) in enumerate(scene.negatives):
            y = 0.72 - 0.25 * i
            text.text(0, y, f"{style}: {negative}", fontsize=9, va="top")
            for j, recipe in enumerate(recipes):
                answer = f"{recipe}: {'yes' if prefers[recipe] else 'NO'}"
                colour = "#2ca02c" if prefers[recipe] else "#d62728"
                text.text(0.02 + 0.25 * j, y - 0.115, answer, fontsize=8, color=colour, va="top")
