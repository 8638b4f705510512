"""Checks a file's type by its first bytes: servers often send an HTML page instead of a file."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

# A tar may be compressed; a `page` may be anything, including HTML.
Content: TypeAlias = Literal["zip", "tar", "json", "parquet", "text", "page"]

FIRST = tarfile.BLOCKSIZE  # bytes that `complaint` needs

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # with members, empty
_COMPRESSED = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\0": "xz"}
_PAGE = (b"<!doctype html", b"<html", b"<head", b"<body", b"<?xml")

_BY_SUFFIX: dict[str, Content] = {
    ".zip": "zip",
    ".tar": "tar",
    ".tgz": "tar",
    ".gz": "tar",
    ".bz2": "tar",
    ".xz": "tar",
    ".json": "json",
    ".jsonl": "json",
    ".parquet": "parquet",
    ".tsv": "text",
    ".csv": "text",
    ".txt": "text",
    ".html": "page",
    ".htm": "page",
    ".xml": "page",
    ".svg": "page",
}


def content_of(path: Path) -> Content | None:
    """The content implied by a file's suffix; None for other suffixes."""
    return _BY_SUFFIX.get(path.suffix.lower())


def is_zip(first: bytes) -> bool:
    return first.startswith(_ZIP)


def compression(first: bytes) -> str | None:
    """`gz`, `bz2`, `xz`, or None."""
    return next((name for magic, name in _COMPRESSED.items() if first.startswith(magic)), None)


def complaint(first: bytes, expected: Content | None) -> str | None:
    """Why a file that starts with these `FIRST` bytes is not as expected; None if it may be.

    If `expected` is None, anything but an HTML page is accepted.
    """
    if expected is None:
        return "an HTML page instead of a file" if _is_page(first) else None
    if _CHECKS[expected](first):
        return None
    if not first:
        return f"nothing instead of a {expected} file"
    what = "an HTML page" if _is_page(first) else "something else"
    return f"{what} instead of a {expected} file"


def _is_page(first: bytes) -> bool:
    return first.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_PAGE)


def _is_tar(first: bytes) -> bool:
    if compression(first):
        return True
    try:
        tarfile.TarInfo.frombuf(first[:FIRST], "utf-8", "surrogateescape")
    except tarfile.HeaderError:  # its checksum is wrong
        return False
    return True


def _is_json(first: bytes) -> bool:
    return first.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"{", b"["))


def _is_parquet(first: bytes) -> bool:
    return first.startswith(b"PAR1")


def _is_text(first: bytes) -> bool:
    return not _is_page(first) and b"\0" not in first


_CHECKS: dict[Content, Callable[[bytes], bool]] = {
    "zip": is_zip,
    "tar": _is_tar,
    "json": _is_json,
    "parquet": _is_parquet,
    "text": _is_text,
    "page": lambda first: True,
}
