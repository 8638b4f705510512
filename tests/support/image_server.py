"""A web of pictures on loopback, with the faults that the real one has."""

from __future__ import annotations

import time
from collections import Counter
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Lock

from support.loopback import LoopbackServer
from support.tars import jpeg

PATIENCE = 2  # seconds, the time-out that tables of this server want
HEALS_AFTER = {"unwell": 1, "busy": 1, "slow": 1, "dropped": 1, "sick": 2}  # requests


class PictureServer(LoopbackServer):
    """Serves /KIND/NUMBER, and counts in `requests` what was asked for.

    `ok` is a JPEG of its own colour. `gone` 404, `forbidden` 403, `html` a page with status 200,
    `noai` a JPEG with the opt-out header, `broken` 500 for ever, `stuck` no answer for ever.
    `unwell` (500), `busy` (429), `slow` (no answer), `dropped` (half of the picture) and `sick`
    (503) are a JPEG after so many requests as `HEALS_AFTER` has; never if `heals` is false. Every
    answer takes `delay` seconds.
    """

    def __init__(self, heals: bool = True, delay: float = 0) -> None:
        super().__init__(_Handler)
        self.heals = heals
        self.delay = delay
        self.requests: Counter[str] = Counter()
        self.lock = Lock()


class _Handler(BaseHTTPRequestHandler):
    server: PictureServer

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.requests[self.path] += 1
            asked = self.server.requests[self.path]
        time.sleep(self.server.delay)
        _, kind, number = self.path.split("/")
        picture = jpeg((int(number) % 256, int(number) // 256, 90))
        if self.server.heals and asked > HEALS_AFTER.get(kind, asked):
            kind = "ok"
        status = {"gone": 404, "forbidden": 403, "broken": 500, "unwell": 500, "busy": 429}
        if kind in ("slow", "stuck"):
            self.server.closing.wait(3 * PATIENCE)
        elif kind == "dropped":
            self._answer(200, picture[: len(picture) // 2], length=len(picture))
        elif kind == "html":
            self._answer(200, b"<html>There is no such picture</html>")
        elif kind == "noai":
            self._answer(200, picture, robots="noai")
        elif kind == "sick":
            self._answer(503, b"")
        else:
            self._answer(status.get(kind, 200), b"" if kind in status else picture)

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
        """Quietly."""


# How many rows of each kind a table of 300 has.
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
    """A TSV of caption and URL without a header, as CC3M's, its kinds mixed; returns the rows."""
    kinds = [kind for kind, count in KINDS.items() for _ in range(count)]
    mixed = [kinds[i * 7 % len(kinds)] for i in range(len(kinds))]
    rows = [(f'a "{kind}" picture {i}', f"{url}/{kind}/{i}") for i, kind in enumerate(mixed)]
    path.write_text("".join(f"{caption}\t{address}\n" for caption, address in rows))
    return rows
