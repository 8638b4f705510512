"""Checks and escapes for untrusted text."""

from __future__ import annotations

from collections.abc import Mapping


def is_unicode(text: str) -> bool:
    """Whether a text can be encoded as UTF-8, that is, has no unpaired surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def plural(count: int, noun: str) -> str:
    """ "1 file", "2,000 files"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def join_counts(counts: Mapping[str, int], separator: str = ", ") -> str:
    """Counts by reason, the largest first: "no image: 1,000, empty: 2"."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return separator.join(f"{reason}: {count:,}" for reason, count in ordered)


def printable(text: str) -> str:
    """Make a text safe for a terminal: control characters become escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
