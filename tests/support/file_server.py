"""A file server on loopback with the faults of a bad network."""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from support.loopback import LoopbackServer

HTML = b"<!DOCTYPE html>\n<html><body>Sign in to the network of this hotel</body></html>"
BLOCK = 1 << 14  # bytes sent at a time


@dataclass(frozen=True)
class Drop:
    """Close the connection after this many bytes of the body."""

    after: int


@dataclass(frozen=True)
class Stall:
    """Fall silent after this many bytes of the body; the connection stays open."""

    after: int


@dataclass(frozen=True)
class Answer:
    """Respond with something else: a status, a page with status 200, a redirect."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Change:
    """Replace the file from this request on."""

    content: bytes


@dataclass
class Served:
    """A file and how it is served; each request uses up one of `faults`."""

    content: bytes
    faults: list[Drop | Stall | Answer | Change] = field(default_factory=list)
    ranges: bool = True
    obeys_if_range: bool = True
    etag: str | None = ""  # "": derived from the content; None: not sent
    length: int | None = None  # a wrong Content-Length
    chunked: bool = False  # sent without a Content-Length
    pause: float = 0.0  # seconds before each block
    head_length: int | None = None  # a wrong length in responses to HEAD; 0: no response

    @property
    def tag(self) -> str | None:
        return f'"{hashlib.md5(self.content).hexdigest()}"' if self.etag == "" else self.etag


@dataclass(frozen=True)
class Asked:
    """A received request."""

    path: str
    range: str | None
    if_range: str | None
    headers: dict[str, str]


class FileServer(LoopbackServer):
    """Serves `files` by path.

    `asked` lists the GETs, `sent` counts the bytes of their bodies. `asked_sizes` lists the
    paths of the HEADs, which have no faults.
    """

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.files: dict[str, Served] = {}
        self.asked: list[Asked] = []
        self.asked_sizes: list[str] = []
        self.sent = 0

    def serve(self, name: str, file: Served | bytes) -> str:
        """Serve a file; returns its address."""
        self.files[f"/{name}"] = file if isinstance(file, Served) else Served(file)
        return f"{self.url}/{name}"


class _Handler(BaseHTTPRequestHandler):
    server: FileServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.server.asked_sizes.append(self.path)
        file = self.server.files.get(self.path)
        if file is None:
            return self._answer(Answer(404))
        if file.head_length == 0:
            self.server.closing.wait()
            return None
        return self._head(file, None, file.head_length or len(file.content))

    def do_GET(self) -> None:
        self.server.asked.append(
            Asked(
                self.path,
                self.headers.get("Range"),
                self.headers.get("If-Range"),
                dict(self.headers),
            )
        )
        file = self.server.files.get(self.path.removeprefix(self.server.url))
        if file is None:
            return self._answer(Answer(404))
        fault = file.faults.pop(0) if file.faults else None
        if isinstance(fault, Answer):
            return self._answer(fault)
        if isinstance(fault, Change):
            file.content = fault.content
        start = self._start(file)
        if start is not None and start >= len(file.content):
            return self._answer(Answer(416, {"Content-Range": f"bytes */{len(file.content)}"}))
        body = file.content[start or 0 :]
        self._head(file, start, len(body))
        self._body(file, body, fault if isinstance(fault, Drop | Stall) else None)

    def _start(self, file: Served) -> int | None:
        """The first requested byte; None for the whole file."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match is None or not file.ranges:
            return None
        wanted = self.headers.get("If-Range")
        if wanted is not None and file.obeys_if_range and wanted != file.tag:
            return None
        return int(match[1])

    def _head(self, file: Served, start: int | None, length: int) -> None:
        self.send_response(200 if start is None else 206)
        if start is not None:
            total = len(file.content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if file.tag is not None:
            self.send_header("ETag", file.tag)
        if file.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            lie = file.length is not None and file.length - (start or 0)
            self.send_header("Content-Length", str(lie or length))
        self.end_headers()

    def _body(self, file: Served, body: bytes, fault: Drop | Stall | None) -> None:
        end = len(body) if fault is None else fault.after
        for at in range(0, end, BLOCK):
            block = body[at : min(at + BLOCK, end)]
            time.sleep(file.pause)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block) if file.chunked else block)
            self.server.sent += len(block)
        if isinstance(fault, Stall):
            self.server.closing.wait()
        if fault is None and file.chunked:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = fault is not None or file.length is not None

    def _answer(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if "Content-Length" in answer.headers:
            self.close_connection = True  # it may be wrong
        else:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(answer.body)

    def log_message(self, *_: object) -> None:
        pass
