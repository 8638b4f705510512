"""What a run prints: a live table in a terminal, lines in a pipe, and a closing summary."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from fscdata.base.text import printable
from fsctrain.records import Record, Watch, read_metrics

_LOSSES = ("loss", "clip", "global", "local")
_LABEL = 14  # columns
_GAP = "   "


@contextmanager
def open_view(console: Console) -> Iterator[Watch]:
    """A function that shows each record: in a terminal as a table, otherwise as a line."""
    if not console.is_terminal:
        yield lambda record, steps: console.print(f"step {record['step']}/{steps} {_line(record)}")
        return
    table = _Table()
    with Live(table, console=console, auto_refresh=False, vertical_overflow="visible") as live:

        def watch(record: Record, steps: int) -> None:
            table.add(record, steps)
            live.refresh()

        yield watch


def _line(record: Record) -> str:
    """A metrics record on one line."""
    if "scores" in record:
        return " ".join(_scores(record))
    parts = [*_losses(record), *(f"prefers_true[{k}] {v}" for k, v in _preferences(record))]
    return f"epoch {record['epoch']} {' '.join(parts)} {record['samples_per_second']:.1f} samples/s"


class _Table:
    """The last training record and the last scores, with the time left."""

    def __init__(self) -> None:
        self._training: Record | None = None
        self._scores: list[Record] = []
        self._steps = 0
        self._first: tuple[float, int] | None = None  # time and step of the first training record

    def add(self, record: Record, steps: int) -> None:
        self._steps = steps
        if "scores" in record:
            self._scores.append(record)
            return
        self._training = record
        self._first = self._first or (time.monotonic(), record["step"])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # Broken here, between cells: rich would break inside a cell, or not at all if soft-wrapped.
        for label, cells in self._rows():
            for number, line in enumerate(_flow(cells, options.max_width - _LABEL)):
                yield Text(f"{'' if number else label:{_LABEL}}{line}", no_wrap=True)

    def _rows(self) -> Iterator[tuple[str, list[str]]]:
        record = self._training
        if record is not None:
            step = f"{record['step']:,}/{self._steps:,}"
            yield "step", [step, f"epoch {record['epoch']}", f"{self._time_left(record)} left"]
            yield "loss", [part.removeprefix("loss ") for part in _losses(record)]
            preferences = [f"{style} {share}" for style, share in _preferences(record)]
            if preferences:
                yield "prefers_true", preferences
            yield "learning rate", [f"{record['lr']:.3g}"]
            wait = record["data_seconds"] / (record["data_seconds"] + record["step_seconds"])
            yield (
                "speed",
                [
                    f"{record['samples_per_second']:.1f} samples/s",
                    f"data wait {wait:.0%}",
                    f"memory {record['peak_memory_gb']:.1f} GB",
                ],
            )
        if self._scores:
            last = self._scores[-1]
            yield "validation", [f"step {last['step']:,}", *_scores(last)]
            best = _best(self._scores)
            if best is not None:
                yield "best score", [best]

    def _time_left(self, record: Record) -> timedelta:
        """From the pace since the first record, which includes validations."""
        assert self._first is not None
        began, first = self._first
        pace = record["data_seconds"] + record["step_seconds"]
        if record["step"] > first:
            pace = (time.monotonic() - began) / (record["step"] - first)
        return timedelta(seconds=round(pace * (self._steps - record["step"])))


def _flow(cells: list[str], width: int) -> list[str]:
    """Lay cells out in lines of at most `width` columns; only a cell wider than that is broken."""
    lines = [""]
    for cell in map(printable, cells):
        for part in textwrap.wrap(cell, max(width, 1)):
            if lines[-1] and len(lines[-1]) + len(_GAP) + len(part) > width:
                lines.append("")
            lines[-1] += f"{_GAP if lines[-1] else ''}{part}"
    return lines


def summary(metrics: Path, steps: int, seconds: float) -> list[str]:
    """The lines that close a run, from its metrics.jsonl, which includes the part before a resume.

    Args:
        metrics: the file.
        steps: the run's number of steps.
        seconds: how long this process took.

    Raises:
        FsckitError: the file is not a metrics file.
    """
    records = read_metrics(metrics)
    training = [record for record in records if "loss" in record]
    done = training[-1]["step"] if training else 0
    took = timedelta(seconds=round(seconds))
    lines = [f"finished {done:,} of {steps:,} steps; this command took {took}"]
    if training:
        lines.append(f"final losses: {', '.join(_losses(training[-1]))}")
        preferences = [f"{style} {share}" for style, share in _preferences(training[-1])]
        if preferences:
            lines.append(f"final prefers_true: {', '.join(preferences)}")
    best = _best([record for record in records if "scores" in record])
    return lines if best is None else [*lines, f"best score: {best}"]


def _losses(record: Record) -> list[str]:
    return [f"{name} {_number(record[name], 4)}" for name in _LOSSES if name in record]


def _preferences(record: Record) -> list[tuple[str, str]]:
    """How often an image prefers its caption, by style."""
    shares = record["prefers_true"].items()
    return [(style, f"{share:.2f}") for style, share in shares if share is not None]


def _scores(record: Record) -> list[str]:
    return [f"{name} {_number(score, 3)}" for name, score in record["scores"].items()]


def _best(records: list[Record]) -> str | None:
    """The best score and its step; the first if several are equal, as in early stopping."""
    scores = [(r["scores"].get("score"), r["step"]) for r in records]
    known = [(score, step) for score, step in scores if score is not None]
    if not known:
        return None
    score, step = max(known, key=lambda pair: pair[0])
    return f"{score:.3f} at step {step:,}"


def _number(value: float | None, digits: int) -> str:
    return "not finite" if value is None else f"{value:.{digits}f}"
