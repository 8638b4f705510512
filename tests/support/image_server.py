"""Serves images on loopback, with the faults of the real web."""

from __future__ import annotations

import time
from collections import Counter
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Lock

from support.loopback import LoopbackServer
from support.tars import jpeg

TIMEOUT = 2  # seconds; tables of this server need this timeout
HEALS_AFTER = {"unwell": 1, "busy": 1, "slow": 1, "dropped": 1, "sick": 2}  # requests


class ImageServer(LoopbackServer):
    """Serves /KIND/NUMBER and counts the requests for each path in `requests`.

    `ok` is a JPEG whose colour depends on the number. `gone` returns 404, `forbidden` 403, `html` a
    page with status 200, `noai` a JPEG with the opt-out header, `broken` always 500, `stuck` never.
    `unwell` (500), `busy` (429), `slow` (no response), `dropped` (half an image) and `sick` (503)
    become a JPEG after `HEALS_AFTER` requests, unless `heals` is false. Every response takes
    `delay` seconds.
    """

    def __init__(self, heals: bool = True, delay: float = 0) -> None:
        super().__init__(_Handler)
        self.heals = heals
        self.delay = delay
        self.requests: Counter[str] = Counter()
        self.lock = Lock()


class _Handler(BaseHTTPRequestHandler):
    server: ImageServer

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.requests[self.path] += 1
            asked = self.server.requests[self.path]
        time.sleep(self.server.delay)
        _, kind, number = self.path.split("/")
        image = jpeg((int(number) % 256, int(number) // 256, 90))
        if self.server.heals and asked > HEALS_AFTER.get(kind, asked):
            kind = "ok"
        status = {"gone": 404, "forbidden": 403, "broken": 500, "unwell": 500, "busy": 429}
        if kind in ("slow", "stuck"):
            self.server.closing.wait(3 * TIMEOUT)
        elif kind == "dropped":
            self._answer(200, image[: len(image) // 2], length=len(image))
        elif kind == "html":
            self._answer(200, b"<html>No such image</html>")
        elif kind == "noai":
            self._answer(200, image, robots="noai")
        elif kind == "sick":
            self._answer(503, b"")
        else:
            self._answer(status.get(kind, 200), b"" if kind in status else image)

    def _answer(
        self, status: int, body: bytes, length: int | None = None, robots: str | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.send_header("Content-Type", "image/jpeg")
        if robots:
            self.send_header("X-Robots-Tag", robots)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


# Rows of each kind in a table of 300.
KINDS = {
    "ok": 220,
    "gone": 20,
    "forbidden": 5,
    "html": 10,
    "noai": 10,
    "broken": 5,
    "stuck": 2,
    "unwell": 8,
    "busy": 5,
    "slow": 3,
    "dropped": 5,
    "sick": 7,
}


def write_cc3m_table(path: Path, url: str) -> list[tuple[str, str]]:
    """Write a TSV like CC3M's, without a header and with mixed kinds; returns its rows."""
    kinds = [kind for kind, count in KINDS.items() for _ in range(count)]
    mixed = [kinds[i * 7 % len(kinds)] for i in range(len(kinds))]
    rows = [(f'a "{kind}" image {i}', f"{url}/{kind}/{i}") for i, kind in enumerate(mixed)]
    path.write_text("".join(f"{caption}\t{address}\n" for caption, address in rows))
    return rows
