"""Progress of long-running work: steps report it, and a terminal shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Progress of one stage of the work.

    Attributes:
        stage: what is being done: "fetching", "packing".
        done: the amount done, in `unit`s.
        total: the total amount; None if unknown.
        unit: "bytes", "shards", …
        detail: extra text for display, such as a rate.
        seconds_left: the step's own estimate if it is better than one from done / total.
    """

    stage: str
    done: float = 0
    total: float | None = None
    unit: str = "bytes"
    detail: str = ""
    seconds_left: float | None = None


@dataclass(frozen=True)
class Reporter:
    """Callbacks for long work: `progress` many times per second, `say` an occasional sentence."""

    progress: Callable[[Progress], None] = lambda progress: None
    say: Callable[[str], None] = lambda sentence: None

    def counter(self, stage: str, unit: str) -> Callable[[int, int], None]:
        """A function of (done, total) that reports this stage."""
        return lambda done, total: self.progress(Progress(stage, done, total, unit))


SILENT = Reporter()
