"""Read metrics.jsonl; without torch, which `fsctrain plot` does not need."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fscdata.base.errors import FsckitError

Record = dict[str, Any]  # a line of metrics.jsonl, as `fsctrain.metrics.Metrics` writes it
Watch = Callable[[Record, int], None]  # called with a record and the run's number of steps


def read_metrics(path: Path) -> list[Record]:
    """The records of a metrics.jsonl, without the partial line that a killed run may leave.

    Raises:
        FsckitError: the file is missing, or a line is not a metrics record.
    """
    try:
        *lines, _ = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        raise FsckitError(f"{path}: file not found; expected the metrics of a run") from None
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            record["step"] = int(record["step"])
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            raise FsckitError(f"{path}: line {number} is not a metrics record") from None
        records.append(record)
    return records
