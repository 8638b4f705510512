"""Plot the metrics of runs side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib import color_sequences
from matplotlib.figure import Figure  # without pyplot, which may need a display
from matplotlib.lines import Line2D

from fscdata.base.errors import FsckitError
from fscdata.base.files import atomic_file
from fsctrain.records import Record, read_metrics
from fsctrain.run_folder import METRICS

CHOICE = "choice/"
WIDTH, HEIGHT, DPI = 16, 4.2, 100  # inches; height per row
DASHES: tuple[Any, ...] = (
    *("-", "--", ":", "-."),
    *((0, dashes) for dashes in ((5, 1, 1, 1, 1, 1), (9, 3), (1, 4), (9, 2, 3, 2))),
)
Point = tuple[float, float]
Curves = dict[str, list[Point]]  # by label within a run, such as a style


def plot_runs(runs: Sequence[Path], out: Path) -> None:
    """Plot loss, caption preference, scores, learning rate and speed as a PNG, 1600 px wide.

    Colours distinguish runs, dash patterns a run's curves. Panels without data are omitted.

    Args:
        runs: run folders, each with a metrics.jsonl.
        out: the PNG; an existing file is overwritten.

    Raises:
        FsckitError: metrics are missing or have no training record, a value is not a number, or a
            run is listed twice.
    """
    records = {_name(run, runs): _read(run) for run in runs}
    panels = [
        (title, {run: curves(lines) for run, lines in records.items()})
        for title, curves in PANELS.items()
    ]
    panels = [(title, curves) for title, curves in panels if any(curves.values())]
    figure = _draw(panels, list(records))
    with atomic_file(out) as file:
        figure.savefig(file, dpi=DPI, format="png")


def _read(run: Path) -> list[Record]:
    records = read_metrics(run / METRICS)
    if not any("loss" in record for record in records):
        raise FsckitError(f"{run / METRICS}: no training record yet")
    for record in records:
        _check(record, run / METRICS)
    return records


def _check(record: Record, path: Path) -> None:
    """Raise FsckitError if a value is not a number."""
    for title, curves in PANELS.items():
        try:
            curves([record])
        except (AttributeError, TypeError, ValueError, OverflowError):
            raise FsckitError(f"{path}: step {record['step']}: '{title}' is not a number") from None


def _name(run: Path, runs: Sequence[Path]) -> str:
    """The folder's name, or its path if another run has the same name."""
    names = [other.name for other in runs]
    if runs.count(run) > 1:
        raise FsckitError(f"{run}: listed twice; list each run once")
    return run.name if names.count(run.name) == 1 else os.fspath(run)


def _point(record: Record, value: Any) -> Point:
    return float(record["step"]), float(value)


def _one(name: str) -> Callable[[list[Record]], Curves]:
    """A number from each training record."""

    def curves(records: list[Record]) -> Curves:
        points = [_point(r, r[name]) for r in records if r.get(name) is not None]
        return {"": points} if points else {}

    return curves


def _several(
    name: str, select: Callable[[str], bool] = lambda key: True
) -> Callable[[list[Record]], Curves]:
    """One curve per key of a record's mapping `name`."""

    def curves(records: list[Record]) -> Curves:
        by_key: Curves = {}
        for record in records:
            for key, value in record.get(name, {}).items():
                if value is not None and select(key):
                    by_key.setdefault(key.removeprefix(CHOICE), []).append(_point(record, value))
        return by_key

    return curves


PANELS: dict[str, Callable[[list[Record]], Curves]] = {
    "training: loss": _one("loss"),
    "training: prefers the true caption": _several("prefers_true"),
    "validation: prefers the true caption": _several("scores", lambda key: key.startswith(CHOICE)),
    "validation: other scores": _several("scores", lambda key: not key.startswith(CHOICE)),
    "learning rate": _one("lr"),
    "samples per second": _one("samples_per_second"),
}


def _draw(panels: list[tuple[str, dict[str, Curves]]], runs: list[str]) -> Figure:
    palette = color_sequences["tab10"]
    colours = {run: palette[number % len(palette)] for number, run in enumerate(runs)}
    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(WIDTH, HEIGHT * rows + 0.5), layout="constrained")
    for number, (title, curves_by_run) in enumerate(panels, 1):
        axes = figure.add_subplot(rows, 2, number)
        names = list(dict.fromkeys(name for curves in curves_by_run.values() for name in curves))
        dashes = {name: DASHES[i % len(DASHES)] for i, name in enumerate(names)}
        for run, curves in curves_by_run.items():
            for name, points in curves.items():
                steps, values = zip(*points, strict=True)
                marker = "o" if len(points) == 1 else None
                style = {"color": colours[run], "linestyle": dashes[name], "marker": marker}
                axes.plot(steps, values, linewidth=1.8, **style)
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if names != [""]:
            keys = [Line2D([], [], color="black", linestyle=dashes[name]) for name in names]
            axes.legend(keys, names, fontsize=9, handlelength=3.5)
    keys = [Line2D([], [], color=colours[run], linewidth=3) for run in runs]
    figure.legend(keys, runs, loc="outside upper center", ncols=min(len(runs), 4), fontsize=12)
    return figure
