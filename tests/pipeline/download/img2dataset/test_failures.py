"""The reasons behind messages of urllib, OpenSSL and img2dataset."""

from __future__ import annotations

import pytest

from fscdata.download.img2dataset.failures import is_temporary, reason_of


@pytest.mark.parametrize(
    ("message", "reason", "temporary"),
    [
        ("HTTP Error 404: Not Found", "HTTP 404", False),
        ("HTTP Error 410: Gone", "HTTP 410", False),
        ("HTTP Error 403: Forbidden", "HTTP 403", False),
        ("HTTP Error 429: Too Many Requests", "HTTP 429", True),
        ("HTTP Error 503: Service Unavailable", "HTTP 5xx", True),
        ("HTTP Error 504: Gateway Time-out", "HTTP 5xx", True),
        ("<urlopen error timed out>", "time-out", True),
        ("The read operation timed out", "time-out", True),
        ("<urlopen error _ssl.c:989: The handshake operation timed out>", "time-out", True),
        ("<urlopen error [Errno -2] Name or service not known>", "DNS", True),
        ("<urlopen error [Errno -3] Temporary failure in name resolution>", "DNS", True),
        ("[Errno 104] Connection reset by peer", "connection dropped", True),
        ("Remote end closed connection without response", "connection dropped", True),
        ("IncompleteRead(317 bytes read, 317 more expected)", "connection dropped", True),
        ("<urlopen error [Errno 111] Connection refused>", "no connection", True),
        ("<urlopen error [Errno 101] Network is unreachable>", "no connection", True),
        (
            "<urlopen error [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate"
            " has expired (_ssl.c:1006)>",
            "TLS",
            False,
        ),
        ("Use of image disallowed by X-Robots-Tag directive", "opt-out", False),
        ("Image decoding error", "not an image", False),
        ("image too small", "image too small", False),
        ("hash mismatch", "hash mismatch", False),
        ("unknown url type: 'htp'", "bad address", False),
        ("'ascii' codec can't encode character '\\xe9' in position 6", "bad address", False),
        ("something new", "other", False),
        (None, "other", False),
    ],
)
def test_a_message_has_a_reason(message: str | None, reason: str, temporary: bool) -> None:
    assert reason_of(message) == reason
    assert is_temporary(reason) is temporary
