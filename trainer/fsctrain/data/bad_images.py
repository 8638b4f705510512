"""Pictures that could not be used: named in a file, counted by reason, tolerated up to a limit."""

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

FEW = 10


@dataclass(frozen=True)
class BadImage:
    """A sample whose picture was not used, and why."""

    key: str
    tar: str
    reason: str


class BadImages:
    """The bad pictures of a run, each written once to a JSON-lines file.

    A run goes on with few of them. It stops when their rows are more than the share `limit` of the
    rows read so far; where `limit` is above 0, only when more than 10 pictures are bad.
    """

    def __init__(self, path: Path, limit: float, *, writes: bool = True) -> None:
        """`writes`: whether this rank writes the file; all ranks are told the same pictures."""
        self.path = path
        self.limit = limit
        self.reasons: Counter[str] = Counter()
        self._writes = writes
        self._keys: set[str] = set()
        self._bad_rows = 0
        self._rows = 0

    def count(self, bad: Iterable[BadImage], rows: int) -> None:
        """Count the bad pictures of a step that read `rows` rows, bad ones included.

        Raises:
            FsckitError: there are too many.
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
        enough = not self.limit or len(self._keys) > FEW
        if enough and self._bad_rows > self.limit * self._rows:
            raise FsckitError(
                f"{self.path}: {self._bad_rows} of the first {self._rows} rows have a picture "
                f"that cannot be used ({self.summary()}), more than {self.limit:g} of them; "
                f"mend or leave out the samples named there, or raise --max-bad"
            )

    def check_some_good(self) -> None:
        """Raises FsckitError where no picture of a whole run could be used."""
        if self._bad_rows == self._rows:
            raise FsckitError(f"{self.path}: no picture could be used ({self.summary()})")

    def summary(self) -> str:
        """The counts in words, the most frequent reason first; empty if there are none."""
        return ", ".join(f"{reason}: {count}" for reason, count in self.reasons.most_common())

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know, as JSON."""
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
        """Leave the lines of the pictures that are counted; a killed run may have named more."""
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["key"] in self._keys:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                continue  # the half line of a killed run
        write_text(self.path, "".join(kept))
