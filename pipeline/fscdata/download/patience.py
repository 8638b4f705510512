"""How long to bear with a bad network."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


class LastingError(Exception):
    """What one address does wrong, and will do wrong again."""


class PassingError(Exception):
    """What one address does wrong and may not do next time; `after` so many seconds, it says."""

    def __init__(self, what: str, after: float = 0.0) -> None:
        super().__init__(what)
        self.after = after


@dataclass(frozen=True)
class Patience:
    """When to give an address up; times are seconds.

    `attempts` are those in a row that bring no byte which was not there before. The wait before the
    next doubles from `first_wait`; it is as long as the server asks (Retry-After), but never longer
    than `longest_wait`. `timeout` is how long a server may be silent. `tell` gets a sentence before
    each wait.
    """

    attempts: int = 8
    first_wait: float = 1.0
    longest_wait: float = 120.0
    timeout: float = 60.0
    sleep: Callable[[float], None] = time.sleep
    tell: Callable[[str], None] = lambda sentence: None

    def wait(self, address: str, failures: int, error: PassingError) -> None:
        """Wait before the next attempt, after so many failed."""
        seconds = min(max(self.first_wait * 2 ** (failures - 1), error.after), self.longest_wait)
        self.tell(f"{address} {error}; goes on in {seconds:.0f} s")
        self.sleep(seconds)


def seconds_asked(headers: Mapping[str, str]) -> float:
    """Seconds to wait by a response's Retry-After (RFC 9110: seconds or a date), 0 if it has none
    that is understood."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        then = parsedate_to_datetime(value)
        return max((then - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError):  # no date, or without a time zone or beyond all
        return 0.0
