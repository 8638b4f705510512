"""How far a download is: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.filesize import decimal

from fscdata.base.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress as RichBar

    from fscdata.steps.work import Progress, Show

_LINE_EVERY = 10.0  # seconds, where there is no terminal for a bar


@contextmanager
def display(silent: bool) -> Iterator[Show]:
    """Where a download tells how it fares; its sentences go to stderr too."""
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    from fscdata.steps.work import Show

    stderr = Console(stderr=True)
    if silent:
        yield Show()
    elif not stderr.is_terminal:
        yield Show(_Lines(), _write)
    else:
        columns = (BarColumn(), TextColumn("{task.description}", markup=False))
        with Bar(*columns, console=stderr, transient=True) as bar:
            yield Show(_Bar(bar), lambda sentence: bar.print(printable(sentence), markup=False))


class _Pace:
    """How long a stage has still to go."""

    def __init__(self) -> None:
        self._stage = ""
        self._start = (0.0, 0)

    def describe(self, progress: Progress) -> str:
        """The stage, how much is done, and the time that is left."""
        now = time.monotonic()
        if progress.stage != self._stage:
            # What an earlier run left is told at once; it says nothing of the pace.
            self._stage, self._start = progress.stage, (now, progress.done)
        parts = [f"{progress.stage}: {_amount(progress)}"]
        if progress.files_total:
            parts.append(f"{progress.files:,} of {progress.files_total:,} files")
        seconds, done = now - self._start[0], progress.done - self._start[1]
        if progress.total and done > 0 and seconds > 1:
            left = max(progress.total - progress.done, 0) / done * seconds
            parts.append(f"{timedelta(seconds=round(left))} left")
        return ", ".join(parts)


class _Bar:
    def __init__(self, bar: RichBar) -> None:
        self._bar = bar
        self._task = bar.add_task("starting", total=None)
        self._pace = _Pace()

    def __call__(self, progress: Progress) -> None:
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
    if progress.unit == "bytes":
        done, total = decimal(progress.done), progress.total and decimal(progress.total)
    else:
        done, total = f"{progress.done:,}", progress.total and f"{progress.total:,}"
    of = f" of {total}" if total else ""
    return f"{done}{of}" if progress.unit == "bytes" else f"{done}{of} {progress.unit}"


def _write(line: str) -> None:
    sys.stderr.write(f"{printable(line)}\n")
