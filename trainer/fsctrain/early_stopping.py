"""Early stopping: the best score so far, and the weights that reached it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

BEST = "best"


class EarlyStopping:
    """Ends a run whose score stops improving; its state is saved with the run.

    Attributes:
        best: the best score so far; None before the first.
        best_step: the number of steps after which it was reached.
        since: the number of scores since then.
    """

    def __init__(self, patience: int | None, folder: Path) -> None:
        """Set up early stopping for a run.

        Args:
            patience: stop after this many scores in a row without a new best; None never stops.
            folder: the run's folder.
        """
        self.patience = patience
        self.best: float | None = None
        self.best_step = 0
        self.since = 0
        self._folder = folder

    def add(self, step: int, score: float) -> bool:
        """Record the score after `step` steps; returns whether it is the best so far."""
        if self.best is None or score > self.best:
            self.best, self.best_step, self.since = score, step, 0
            return True
        self.since += 1
        return False

    @property
    def stops(self) -> bool:
        """Whether the run should end."""
        return self.patience is not None and self.since >= self.patience

    @property
    def best_weights(self) -> Path:
        """The folder of the weights with the best score."""
        return self._folder / f"{BEST}-{self.best_step:08}"

    def remove_older_weights(self) -> None:
        """Remove all weights but the best; call it after saving the state.

        Until then, the last saved state may still refer to older weights.
        """
        for folder in self._folder.glob(f"{BEST}-*"):
            if folder != self.best_weights:
                shutil.rmtree(folder)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step, "since": self.since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.best_step = state["best"], state["best_step"]
        self.since = state["since"]
