"""How far long work is: what steps report, and a terminal shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far one stage of the work is.

    Attributes:
        stage: what is being done: "fetching", "packing".
        done: how much of it, in `unit`s.
        total: how much in all; None if unknown.
        unit: "bytes", "shards", …
        detail: more for a person to read, such as a rate.
        seconds_left: the time left where the step knows better than done / total.
    """

    stage: str
    done: float = 0
    total: float | None = None
    unit: str = "bytes"
    detail: str = ""
    seconds_left: float | None = None


@dataclass(frozen=True)
class Reporter:
    """Where long work reports: `progress` many times a second, `say` a sentence now and then."""

    progress: Callable[[Progress], None] = lambda progress: None
    say: Callable[[str], None] = lambda sentence: None

    def counter(self, stage: str, unit: str) -> Callable[[int, int], None]:
        """A function of (done, total) that reports this stage."""
        return lambda done, total: self.progress(Progress(stage, done, total, unit))


SILENT = Reporter()
