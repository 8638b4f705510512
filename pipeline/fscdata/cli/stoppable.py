"""What Ctrl-C and SIGTERM leave to be said."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stoppable(again: str) -> Iterator[None]:
    """Says what the same command does `again`, where a signal ends the block."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        sys.stderr.write(f"fscdata: stopped; the same command again {again}\n")
        raise
