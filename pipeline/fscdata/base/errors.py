"""The error shown to users, and helpers to quote other errors in it."""

from __future__ import annotations

from fscdata.base.text import printable

MAX_CHARACTERS = 200  # quoted from another library's message


class FsckitError(ValueError):
    """A mistake in the user's input: one sentence that names the file or option and the fix.

    Library functions write parameters and settings in backticks, `batch_size`; the commands show
    them as options, --batch-size. Both commands print the sentence and exit with 1. Any other
    exception is a bug.
    """


def file_error(error: OSError) -> str:
    """An operating system's error as "FILE: reason"."""
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def first_line(error: BaseException | str) -> str:
    """The first line of an error's message, safe for a terminal; its type if it has none."""
    lines = str(error).strip().splitlines()
    return printable(lines[0][:MAX_CHARACTERS]) if lines else type(error).__name__


def last_line(error: BaseException | str) -> str:
    """Like `first_line`, for tracebacks and logs, whose last line says what happened."""
    lines = str(error).strip().splitlines()
    return printable(lines[-1].strip()[:MAX_CHARACTERS]) if lines else type(error).__name__
