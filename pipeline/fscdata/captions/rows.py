"""A row of a caption file, and how rows become images with captions."""

from __future__ import annotations

import ast
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from fscdata.base.text import is_unicode
from fscdata.contract import MAX_CAPTIONS

MAX_LITERAL = 64 * 1024  # characters of a list literal; Python's parser is slow on huge ones

BAD_ENCODING = "bad row: not UTF-8"
BAD_JSON = "bad row: not a JSON object"
BAD_NEGATIVES = "unreadable published negatives"

Captions = dict[str, list[str]]  # caption → its published negatives


class Row(NamedTuple):
    """A row's values as found in the file; `caption` may be a list of captions."""

    image: object
    caption: object
    negatives: object = None


@dataclass
class CaptionFile:
    """The content of a caption file.

    Attributes:
        images: image name → captions → their published negatives.
        skipped: number of skipped rows per reason.
    """

    images: dict[str, Captions] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)


def add_row(images: dict[str, Captions], row: Row) -> list[str]:
    """Add a row to the images; return the reasons for skipping any of it."""
    if not isinstance(row.image, str) or not row.image.strip():
        return ["bad row: no image name"]
    if not is_unicode(row.image):
        return [BAD_ENCODING]
    captions = images.setdefault(row.image.strip(), {})
    items = row.caption if isinstance(row.caption, list) else [row.caption]
    reasons = []
    published = [] if row.negatives is None else _strings(row.negatives)
    if published is None or (published and len(items) != 1):
        reasons.append(BAD_NEGATIVES)
        published = []
    for item in items:
        caption, reason = _clean(item, captions, published)
        if reason:
            reasons.append(reason)
        else:
            add_negatives(captions, caption, published)
    return reasons


def add_negatives(captions: Captions, caption: str, published: list[str]) -> None:
    """Add a caption, or more published negatives of it."""
    own = captions.setdefault(caption, [])
    own += [negative for negative in published if negative not in own]


def _clean(item: object, captions: Captions, published: list[str]) -> tuple[str, str | None]:
    """The stripped caption, and the reason it cannot be added, if any."""
    caption = "" if item is None else item
    if not isinstance(caption, str):
        return "", "bad row: the caption is not text"
    if not is_unicode(caption):
        return "", BAD_ENCODING
    caption = caption.strip()
    if not caption:
        return "", "empty caption"
    if caption in captions and set(published) <= set(captions[caption]):
        return "", "duplicate row"
    if caption not in captions and len(captions) == MAX_CAPTIONS:
        return "", f"more than {MAX_CAPTIONS} captions of one image"
    return caption, None


def _strings(value: object) -> list[str] | None:
    """A list of strings, or a Python literal of one; None if it is neither."""
    if isinstance(value, str):
        if len(value) > MAX_LITERAL:
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # invalid escapes in the literal
                value = ast.literal_eval(value.strip())
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return None
    if not isinstance(value, list) or not all(isinstance(v, str) and is_unicode(v) for v in value):
        return None
    return [v.strip() for v in value if v.strip()]
