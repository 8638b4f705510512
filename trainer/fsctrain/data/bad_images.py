"""Images that could not be used: listed in a file, counted by reason, tolerated up to a limit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fscdata.base.errors import FsckitError
from fscdata.base.files import write_text
from fscdata.base.paths import access
from fscdata.base.text import join_counts

ALWAYS_TOLERATED = 10  # distinct images; a share of the first few rows says little


@dataclass(frozen=True)
class BadImage:
    """A sample whose image was not used, and why."""

    key: str
    tar: str
    reason: str


class BadImages:
    """The bad images of a run, each written once to a JSON-lines file.

    The run stops when their rows exceed the share `limit` of the rows read so far. With a `limit`
    above 0, up to ten bad images are always tolerated.
    """

    def __init__(self, path: Path, limit: float, *, writes: bool = True) -> None:
        """`writes`: whether this rank writes the file; all ranks count the same images."""
        self.path = path
        self.limit = limit
        self.reasons: Counter[str] = Counter()
        self._writes = writes
        self._keys: set[str] = set()
        self._bad_rows = 0
        self._rows = 0

    def count(self, bad: Iterable[BadImage], rows: int) -> None:
        """Count the bad images of a step that read `rows` rows, including the bad ones.

        Raises:
            FsckitError: the bad images exceed the limit.
        """
        self._rows += rows
        for image in bad:
            self._bad_rows += 1
            if image.key in self._keys:
                continue
            self._keys.add(image.key)
            self.reasons[image.reason] += 1
            if self._writes:
                with access(self.path, "written"), self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(image)) + "\n")
        judged = not self.limit or len(self._keys) > ALWAYS_TOLERATED
        if judged and self._bad_rows > self.limit * self._rows:
            raise FsckitError(
                f"{self.path}: {self._bad_rows} of the first {self._rows} rows have an unusable "
                f"image ({self.summary()}), more than the allowed share of {self.limit:g}; repair "
                f"or remove the samples listed there, or raise `max_bad`"
            )

    def check_some_good(self) -> None:
        """Raise FsckitError if the whole run read no usable image."""
        if self._bad_rows == self._rows:
            raise FsckitError(f"{self.path}: no image could be used ({self.summary()})")

    def summary(self) -> str:
        """The counts by reason, largest first; empty without bad images."""
        return join_counts(self.reasons)

    def state_dict(self) -> dict[str, Any]:
        """The counts, as JSON values."""
        return {
            "reasons": dict(self.reasons),
            "keys": sorted(self._keys),
            "bad_rows": self._bad_rows,
            "rows": self._rows,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.reasons = Counter(state["reasons"])
        self._keys = set(state["keys"])
        self._bad_rows, self._rows = state["bad_rows"], state["rows"]
        if self._writes and self.path.exists():
            self._cut()

    def _cut(self) -> None:
        """Keep the counted images' lines; a killed run may have added more after its last state."""
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["key"] in self._keys:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                continue  # a killed run can leave a partial line
        write_text(self.path, "".join(kept))
