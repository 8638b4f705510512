"""Runs the command `fsctrain` in the tests' process."""

from __future__ import annotations

import sys

from fsctrain.cli import main


def command(*words: object) -> int:
    """The exit status of `fsctrain WORDS`."""
    argv, sys.argv = sys.argv, ["fsctrain", *map(str, words)]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = argv
    return 0
