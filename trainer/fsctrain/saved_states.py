"""The saved states in a run's folder; without torch, so that a mistake is reported at once."""

from __future__ import annotations

from pathlib import Path

FOLDER = "state"


def saved_states(run: Path) -> list[Path]:
    """The states in a run's folder, sorted by step."""
    return sorted((run / FOLDER).glob("step-*"))
