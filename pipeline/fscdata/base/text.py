"""Text that comes from outside and cannot be trusted."""

from __future__ import annotations


def is_unicode(text: str) -> bool:
    """Whether a text can be encoded as UTF-8, that is, has no unpaired surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str) -> str:
    """A text made safe for a terminal: control characters become escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
