"""What a file is, by its first bytes: servers send pages of HTML in place of files."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from typing import Literal, TypeAlias

# A tar may be compressed; `page` is whatever there is, a page of HTML included.
Content: TypeAlias = Literal["zip", "tar", "json", "parquet", "text", "page"]

FIRST = tarfile.BLOCKSIZE  # bytes that tell

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # with members, without
_COMPRESSED = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\0": "xz"}
_PAGE = (b"<!doctype html", b"<html", b"<head", b"<body", b"<?xml")


def is_zip(first: bytes) -> bool:
    return first.startswith(_ZIP)


def compression(first: bytes) -> str | None:
    """`gz`, `bz2`, `xz`, or None."""
    return next((name for magic, name in _COMPRESSED.items() if first.startswith(magic)), None)


def complaint(first: bytes, expected: Content | None) -> str | None:
    """Why the first `FIRST` bytes of a file cannot be those of what is expected, if they cannot.

    Of a file of no known content: whether they are a page of HTML.
    """
    if expected is None:
        return "a page of HTML in place of a file" if _is_page(first) else None
    if _MAY_BE[expected](first):
        return None
    what = "a page of HTML" if _is_page(first) else "something else"
    return f"{what} in place of a {expected} file" if first else f"nothing in place of a {expected}"


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


_MAY_BE: dict[Content, Callable[[bytes], bool]] = {
    "zip": is_zip,
    "tar": _is_tar,
    "json": _is_json,
    "parquet": _is_parquet,
    "text": _is_text,
    "page": lambda first: True,
}
