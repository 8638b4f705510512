"""The one error that a user sees, and how other errors read inside it."""

from __future__ import annotations

from fscdata.base.text import printable

MAX_CHARACTERS = 200  # of another library's message


class FsckitError(ValueError):
    """A mistake in the user's input: one sentence that names the file or option and the fix.

    A library function names its parameters and settings in backticks, `batch_size`; the command
    shows those as its options, --batch-size. Both commands print the sentence and exit with 1. Any
    other exception is a defect of ours.
    """


def file_error(error: OSError) -> str:
    """An operating system's error as "FILE: reason"."""
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def first_line(error: BaseException | str) -> str:
    """The first line of an error's message, safe for a terminal; its type if it has none."""
    lines = str(error).strip().splitlines()
    return printable(lines[0][:MAX_CHARACTERS]) if lines else type(error).__name__


def last_line(error: BaseException | str) -> str:
    """As `first_line`; tracebacks and multi-line logs say what happened in their last line."""
    lines = str(error).strip().splitlines()
    return printable(lines[-1].strip()[:MAX_CHARACTERS]) if lines else type(error).__name__
