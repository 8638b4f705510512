"""Pictures that could not be used: named in a file, counted by reason, tolerated up to a limit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from fscdata.contract import FsckitError

MOST_IMAGES = 10
MOST_SHARE = 0.01


@dataclass(frozen=True)
class BadImage:
    """A sample whose picture was left out of a batch, and why."""

    key: str
    tar: str
    reason: str


class BadImages:
    """The bad pictures of a run, each written once to a JSON-lines file.

    A run goes on with few of them. It stops when more than 10 pictures are bad and their rows are
    more than 1 % of the rows seen so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reasons: Counter[str] = Counter()
        self._keys: set[str] = set()
        self._bad_rows = 0
        self._rows = 0

    def count(self, bad: Iterable[BadImage], rows: int) -> None:
        """Count the bad pictures of a step that had `rows` rows, bad ones included.

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
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(image)) + "\n")
        if len(self._keys) > MOST_IMAGES and self._bad_rows > MOST_SHARE * self._rows:
            raise FsckitError(
                f"{self.path}: {self._bad_rows} of the first {self._rows} rows have a picture "
                f"that cannot be used ({self.summary()}), more than {MOST_SHARE:.0%}; mend or "
                f"leave out the samples named there"
            )

    def check_some_good(self) -> None:
        """Raises FsckitError where no picture of a whole run could be used."""
        if self._bad_rows == self._rows:
            raise FsckitError(f"{self.path}: no picture could be used ({self.summary()})")

    def summary(self) -> str:
        """The counts in words, the most frequent reason first; empty if there are none."""
        return ", ".join(f"{reason}: {count}" for reason, count in self.reasons.most_common())
