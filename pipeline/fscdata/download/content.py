"""What a file is, by its first bytes: servers send pages of HTML in place of files."""

from __future__ import annotations

import tarfile
from typing import Literal, TypeAlias

Content: TypeAlias = Literal["zip", "tar", "json", "text"]  # a tar may be compressed

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
    """Why the first `FIRST` bytes of a file cannot be those of what is expected, if they cannot."""
    if expected is None or _MAY_BE[expected](first):
        return None
    start = first.removeprefix(b"\xef\xbb\xbf").lstrip()
    what = "a page of HTML" if start.lower().startswith(_PAGE) else "something else"
    return f"{what} in place of a {expected} file" if first else f"nothing in place of a {expected}"


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


def _is_text(first: bytes) -> bool:
    start = first.removeprefix(b"\xef\xbb\xbf").lstrip()
    return not start.lower().startswith(_PAGE) and b"\0" not in first


_MAY_BE = {"zip": is_zip, "tar": _is_tar, "json": _is_json, "text": _is_text}
