"""Why an image was not fetched: img2dataset's messages, reduced to a few reasons."""

from __future__ import annotations

import re

_HTTP = re.compile(r"^HTTP Error (\d{3})\b")

# The first match wins. The messages come from urllib, OpenSSL and img2dataset itself.
_REASONS = tuple(
    (re.compile(pattern, re.IGNORECASE), reason)
    for pattern, reason in (
        (r"disallowed by X-Robots-Tag", "opt-out"),
        (r"timed out|time-?out", "time-out"),
        (
            r"name or service not known|name resolution|no address associated|getaddrinfo|"
            r"nodename nor servname|host not found",
            "DNS",
        ),
        (
            r"connection reset|closed connection|connection aborted|broken pipe|IncompleteRead|"
            r"EOF occurred|UNEXPECTED_EOF",
            "connection dropped",
        ),
        (r"connection refused|unreachable|no route to host", "no connection"),
        (r"CERTIFICATE_VERIFY_FAILED|\bSSL\b|_ssl\.c", "TLS"),
        (r"hash mismatch", "hash mismatch"),
        (r"image too small", "image too small"),
        (r"image area too large", "image too large"),
        (r"aspect ratio too large", "aspect ratio too large"),
        (r"image decoding error|OpenCV", "not an image"),
        (
            r"unknown url type|no host given|control characters|nonnumeric port|can't encode|"
            r"invalid (IPv6 )?URL|idna",
            "bad address",
        ),
    )
)

_TEMPORARY = frozenset(
    {
        "time-out",
        "DNS",
        "connection dropped",
        "no connection",
        "HTTP 5xx",
        "HTTP 408",
        "HTTP 425",
        "HTTP 429",
    }
)


def reason_of(message: str | None) -> str:
    """The reason behind a message of img2dataset; `other` for an unknown one."""
    message = message or ""
    if http := _HTTP.match(message):
        return "HTTP 5xx" if http[1].startswith("5") else f"HTTP {http[1]}"
    return next((reason for pattern, reason in _REASONS if pattern.search(message)), "other")


def is_temporary(reason: str) -> bool:
    """Whether a retry may succeed, because the server or the network failed, not the image."""
    return reason in _TEMPORARY
