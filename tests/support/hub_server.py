"""A Hugging Face hub on loopback that serves data set repositories.

Like the real one, it redirects large files (LFS) to a store on another port, which must never see a
token.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from support.loopback import LoopbackServer

TOKEN = "hf_of_someone_with_access"
STALE_TOKEN = "hf_that_was_revoked"
_BLOCK = 16 * 1024


@dataclass
class HubRepository:
    """Files by commit, names of commits by revision; tars and archives are large files.

    `lost` are listed files that the store lacks; `token` unlocks a gated repository's files.
    """

    commits: dict[str, dict[str, bytes]]
    revisions: dict[str, str]
    token: str | None = None
    lost: set[str] = field(default_factory=set)

    def commit(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.revisions.get(revision)


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    range: str | None
    token: str | None


class HubServer:
    """Serves `repositories` until its block ends.

    `unavailable` requests get a 503, `drops` files end after half of the requested bytes, and
    `seconds_per_block` delays each block of 16 KiB. `sent` counts the files' bytes.
    """

    def __init__(self, repositories: dict[str, HubRepository], page: int = 1000) -> None:
        self.repositories = repositories
        self.page = page
        self.unavailable = 0
        self.drops = 0
        self.seconds_per_block = 0.0
        self.sent = 0
        self.requests: list[Request] = []
        self.lock = Lock()
        self._hub = _Server(self, _Hub)
        self._store = _Server(self, _Store)
        self.url, self.store_url = self._hub.url, self._store.url

    def __enter__(self) -> HubServer:
        for server in (self._hub, self._store):
            server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self._hub, self._store):
            server.__exit__()

    def asked(self, part: str, method: str = "GET") -> list[Request]:
        with self.lock:
            return [r for r in self.requests if part in r.path and r.method == method]

    def takes(self, counter: str) -> bool:
        """Use up a fault; returns whether one was left."""
        with self.lock:
            left: int = getattr(self, counter)
            setattr(self, counter, max(0, left - 1))
        return left > 0


class _Server(LoopbackServer):
    def __init__(self, owner: HubServer, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(handler)
        self.owner = owner


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_HEAD(self) -> None:
        self._log_and_answer()

    def do_GET(self) -> None:
        self._log_and_answer()

    def _log_and_answer(self) -> None:
        owner = self.server.owner
        authorization = self.headers["Authorization"]
        token = authorization.removeprefix("Bearer ") if authorization else None
        with owner.lock:
            owner.requests.append(Request(self.command, self.path, self.headers["Range"], token))
        if owner.takes("unavailable"):
            return self.refuse(503)
        self.answer(unquote(urlsplit(self.path).path), token)

    def answer(self, path: str, token: str | None) -> None:
        raise NotImplementedError

    def refuse(self, status: int, code: str = "", message: str = "") -> None:
        self.reply(status, b"", {"X-Error-Code": code, "X-Error-Message": message})

    def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def serve(self, content: bytes, headers: dict[str, str]) -> None:
        """Send a file or the requested range, possibly slowly or not to its end."""
        owner, start = self.server.owner, 0
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if wanted and self.headers["If-Range"] in (None, headers["ETag"]):
            start = int(wanted[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if start and start >= len(content):
            return self.reply(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        self.send_response(206 if "Content-Range" in headers else 200)
        headers |= {"Content-Length": str(len(content) - start), "Accept-Ranges": "bytes"}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return None
        end = len(content)
        if owner.takes("drops"):
            end, self.close_connection = (start + end) // 2, True
        for at in range(start, end, _BLOCK):
            self.wfile.write(content[at : min(at + _BLOCK, end)])
            with owner.lock:
                owner.sent += min(at + _BLOCK, end) - at
            time.sleep(owner.seconds_per_block)
        return None

    def log_message(self, *_: object) -> None:
        pass


class _Hub(_Handler):
    def answer(self, path: str, token: str | None) -> None:
        asked = re.fullmatch(
            r"(?:/api)?/datasets/([^/]+/[^/]+)(?:/(revision|tree|resolve)/([^/]+)(?:/(.*))?)?", path
        )
        repository = self.server.owner.repositories.get(asked[1]) if asked else None
        if asked is None or repository is None:
            return self.refuse(401, "RepoNotFound", "Repository not found")
        commit = repository.commit(asked[3] or "main")
        if commit is None:
            return self.refuse(404, "RevisionNotFound", "Invalid rev id")
        if asked[2] == "resolve":
            return self._resolve(repository, commit, asked[4], token)
        if asked[2] == "tree":
            return self._tree(repository.commits[commit])
        return self._json({"id": asked[1], "sha": commit, "private": False, "gated": False})

    def _tree(self, files: dict[str, bytes]) -> None:
        """Send a page of the list, with the next page's address."""
        size, at = self.server.owner.page, 0
        if cursor := parse_qs(urlsplit(self.path).query).get("cursor"):
            at = int(cursor[0])
        folders = {p.rpartition("/")[0] for p in files} - {""}
        entries = [{"type": "directory", "path": p, "oid": "0" * 40} for p in sorted(folders)]
        entries += [_entry(path, content) for path, content in files.items()]
        headers = {}
        if at + size < len(entries):
            rest = f"{self.server.url}{urlsplit(self.path).path}?recursive=True&cursor={at + size}"
            headers["Link"] = f'<{rest}>; rel="next"'
        self._json(entries[at : at + size], headers)

    def _resolve(
        self, repository: HubRepository, commit: str, path: str, token: str | None
    ) -> None:
        if token == STALE_TOKEN:
            return self.refuse(401, message="Invalid credentials in Authorization header")
        if repository.token not in (None, token):
            return self.refuse(403 if token else 401, "GatedRepo", "Access is restricted")
        content = repository.commits[commit].get(path)
        if content is None or path in repository.lost:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": commit}
        if not _is_large(path):
            return self.serve(content, headers | {"ETag": f'"{_git_id(content)}"'})
        digest = hashlib.sha256(content).hexdigest()
        headers["X-Linked-Size"], headers["X-Linked-ETag"] = str(len(content)), f'"{digest}"'
        headers["Location"] = f"{self.server.owner.store_url}/{digest}?of={quote(path)}"
        return self.reply(302, b"", headers)

    def _json(self, content: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.reply(200, body, {"Content-Type": "application/json"} | (headers or {}))


class _Store(_Handler):
    def answer(self, path: str, token: str | None) -> None:
        if token is not None:
            return self.refuse(400, message="Only one authorisation is allowed")
        for repository in self.server.owner.repositories.values():
            for files in repository.commits.values():
                for content in files.values():
                    if hashlib.sha256(content).hexdigest() == path.strip("/"):
                        return self.serve(content, {"ETag": f'"{path.strip("/")}"'})
        return self.refuse(404)


def _entry(path: str, content: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(content), "oid": _git_id(content)}
    if _is_large(path):
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
    return entry


def _is_large(path: str) -> bool:
    return path.endswith((".tar", ".gz", ".zip"))


def _git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
