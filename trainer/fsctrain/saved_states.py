"""Names in a run's folder, and its saved states; without torch, to report a mistake at once."""

from __future__ import annotations

from pathlib import Path

CONFIG, CHECKPOINT = "config.yaml", "checkpoint"
FOLDER = "state"


def saved_states(run: Path) -> list[Path]:
    """The states in a run's folder, sorted by step."""
    return sorted((run / FOLDER).glob("step-*"))
