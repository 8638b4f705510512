"""A Hugging Face hub on loopback that accepts new repositories and commits."""

from __future__ import annotations

import base64
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Hub(ThreadingHTTPServer):
    """Records requests and the files of its only repository."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.refuses = False

    def __enter__(self) -> Hub:
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        name = self.path.rpartition("/")[2]
        there = "/resolve/main/" in self.path and name in self.server.files
        self.send_response(200 if there else 404)
        for header, value in (
            ("X-Repo-Commit", "0" * 40),
            ("ETag", '"0"'),
            ("X-Error-Code", "EntryNotFound"),
            ("Content-Length", str(len(self.server.files.get(name, b"")))),
        ):
            self.send_header(header, value)
        self.end_headers()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.refuses:
            return self._answer(403, {"error": "You have no right to do this"})
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            self.server.created.append(asked)
            return self._answer(
                200, {"url": f"{self.server.url}/{asked['organization']}/{asked['name']}"}
            )
        if self.path.endswith("/preupload/main"):
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            return self._answer(200, {"files": files})
        if self.path.endswith("/commit/main"):
            for line in body.splitlines():
                part = json.loads(line)
                if part["key"] == "file":
                    self.server.files[part["value"]["path"]] = base64.b64decode(
                        part["value"]["content"]
                    )
            return self._answer(
                200, {"commitUrl": f"{self.server.url}/o/n/commit/0", "commitOid": "0" * 40}
            )
        if self.path == "/api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        return self._answer(500, {"error": f"{self.path} unknown path"})

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
