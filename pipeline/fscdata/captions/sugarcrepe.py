"""SugarCrepe's JSON: numbered pairs of a caption and its negative."""

from __future__ import annotations

from collections.abc import Iterator

from fscdata.captions.rows import BAD_JSON, Row

FIELDS = {"filename", "caption", "negative_caption"}


def is_sugarcrepe(content: object) -> bool:
    """Whether the content is a mapping whose first value is a pair."""
    first = next(iter(content.values()), None) if isinstance(content, dict) else None
    return isinstance(first, dict) and first.keys() >= FIELDS


def read_sugarcrepe(content: dict[str, object]) -> Iterator[Row | str]:
    """The pairs; a pair's negative becomes one of the style `imported`."""
    for pair in content.values():
        if isinstance(pair, dict):
            negative = pair.get("negative_caption")
            yield Row(pair.get("filename"), pair.get("caption"), [negative])
        else:
            yield BAD_JSON
