"""Progress on stderr: a bar in a terminal, otherwise an occasional line."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichBar

from fscdata.base.progress import SILENT, Progress, Reporter
from fscdata.base.text import printable

_LINE_EVERY = 10.0  # seconds, without a terminal


@contextmanager
def display(silent: bool = False) -> Iterator[Reporter]:
    """A reporter that shows progress until the block ends."""
    stderr = Console(stderr=True)
    if silent:
        yield SILENT
    elif not stderr.is_terminal:
        yield Reporter(_Lines(), _write)
    else:
        columns = (BarColumn(), TextColumn("{task.description}", markup=False))
        with RichBar(*columns, console=stderr, transient=True) as bar:
            yield Reporter(_Bar(bar), lambda line: bar.print(printable(line), markup=False))


class _Pace:
    """Estimates how long a stage will take."""

    def __init__(self) -> None:
        self._stage = ""
        self._start = (0.0, 0.0)

    def describe(self, progress: Progress) -> str:
        """The stage, how much of it is done, and the time left."""
        now = time.monotonic()
        if progress.stage != self._stage:
            # Work done by an earlier run is reported at once and says nothing about the pace.
            self._stage, self._start = progress.stage, (now, progress.done)
        parts = [f"{progress.stage}: {_amount(progress)}"]
        if progress.detail:
            parts.append(progress.detail)
        left = progress.seconds_left
        seconds, done = now - self._start[0], progress.done - self._start[1]
        if left is None and progress.total and done > 0 and seconds > 1:
            left = max(progress.total - progress.done, 0) / done * seconds
        if left is not None:
            parts.append(f"{timedelta(seconds=round(left))} left")
        return ", ".join(parts)


class _Bar:
    def __init__(self, bar: RichBar) -> None:
        self._bar = bar
        self._task = bar.add_task("starting", total=None)
        self._pace = _Pace()
        self._stage = ""

    def __call__(self, progress: Progress) -> None:
        if progress.stage != self._stage:
            self._stage = progress.stage
            self._bar.refresh()  # draws how the previous stage ended
        self._bar.update(
            self._task,
            total=progress.total,
            completed=progress.done,
            description=printable(self._pace.describe(progress)),
        )


class _Lines:
    def __init__(self) -> None:
        self._stage = ""
        self._next = 0.0
        self._pace = _Pace()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        line = self._pace.describe(progress)
        if progress.stage != self._stage or now >= self._next:
            self._stage, self._next = progress.stage, now + _LINE_EVERY
            _write(line)


def _amount(progress: Progress) -> str:
    as_text = decimal if progress.unit == "bytes" else "{:,.0f}".format
    amount = as_text(int(progress.done))
    if progress.total:
        amount += f" of {as_text(int(progress.total))}"
    return amount if progress.unit == "bytes" else f"{amount} {progress.unit}"


def _write(line: str) -> None:
    sys.stderr.write(f"{printable(line)}\n")
