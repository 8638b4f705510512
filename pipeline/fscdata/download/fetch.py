"""Fetches one file over HTTP: resumes it, checks it, and renames it when complete.

The hard part of a bad network is knowing when to resume and when to restart: two parts belong
together only if they have the same strong ETag (`If-Range`) or the digest of the whole file is
known. After a permanent failure (404, an HTML page, the wrong size) the next mirror is tried at
once; a transient one is retried as long as new bytes arrive.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from fscdata.base.errors import FsckitError
from fscdata.base.files import TEMPORARY, sync
from fscdata.base.locks import file_lock
from fscdata.base.paths import access
from fscdata.base.text import printable
from fscdata.download import http
from fscdata.download.http import PermanentError, RetryPolicy, TransientError
from fscdata.steps.content import FIRST, Content, complaint

if TYPE_CHECKING:
    import requests

RETRY_POLICY = RetryPolicy()


@dataclass(frozen=True)
class Fetched:
    """A complete file: `size` in bytes, the mirror it came from and its strong ETag.

    `address` and `etag` are None for a file that was already complete.
    """

    address: str | None
    size: int
    sha256: str
    etag: str | None = None


def fetch_file(
    addresses: Sequence[str],
    target: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    recorded: str | None = None,
    progress: Callable[[int], None] = lambda new: None,
    expected: Content | None = None,
    headers: Mapping[str, str] | None = None,
    policy: RetryPolicy = RETRY_POLICY,
) -> Fetched:
    """Fetch a file from the first mirror that has all of it.

    `target` appears only when complete. Until then its bytes are kept next to it, for a later
    process to resume. Without a strong ETag or `sha256`, a changed file would go unnoticed, so the
    download restarts. An existing target with this size and digest is kept; any other is replaced.

    Args:
        addresses: http(s) addresses of one file, tried in turn.
        target: where the file goes.
        size: in bytes, if known.
        sha256: hexadecimal, if known.
        recorded: sha256 of an earlier download. An existing target with another digest has
            changed since and is replaced; the new file need not match.
        progress: called with the new bytes since the last call, first with those from an earlier
            run; negative after a restart.
        expected: type of content, checked against the first bytes.
        headers: sent with every request; `Authorization` does not follow a redirect to another
            host.
        policy: when to give up on an address.

    Raises:
        FsckitError: no mirror has the file, another process is fetching it, an address is not
            http(s), or the target cannot be written.
    """
    for address in addresses:
        _check_address(address)
    with file_lock(target), access(target, "written"), http.open_session(headers or {}) as session:
        existing = _existing(target, size, sha256 or recorded)
        if existing is not None:
            progress(existing.size)
            return existing
        transfer = _Transfer(
            session, _Partial(target), size, sha256 and sha256.lower(), expected, progress, policy
        )
        return transfer.from_any(addresses)


def partial_size(target: Path) -> int | None:
    """The full size [bytes] of a file that an earlier run started; None if unknown."""
    origin = _Partial(target).origin
    return None if origin is None else origin.total


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise FsckitError(f"{printable(address)}: not an http:// or https:// address; correct it")


def _existing(target: Path, size: int | None, sha256: str | None) -> Fetched | None:
    """The file that is already at `target`, unless its size or digest is wrong."""
    if not target.is_file() or size not in (None, target.stat().st_size):
        return None
    digest = _digest(target)
    if sha256 is not None and digest != sha256.lower():
        return None
    _Partial(target).discard()  # left if killed between renaming and cleaning up
    return Fetched(None, target.stat().st_size, digest)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class _Origin:
    """Where a partial file comes from. `total` is its full size [bytes], None if unknown."""

    address: str
    etag: str | None  # strong
    total: int | None


class _Partial:
    """The bytes of `target` so far, and a record of their origin, both under hidden names.

    `origin` is None if nothing has arrived or its origin is unknown.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f".{target.name}{TEMPORARY}")
        self._record = target.with_name(f".{target.name}.origin{TEMPORARY}")
        self.origin = self._read_origin() if self.path.is_file() else None

    @property
    def size(self) -> int:
        """The byte to resume at."""
        return self.path.stat().st_size if self.origin else 0

    def begin(self, origin: _Origin) -> None:
        """Discard the bytes so far; the next ones come from `origin`."""
        self.discard()  # first, so that the record never describes other bytes
        self._record.write_text(json.dumps(asdict(origin)))
        self.path.touch()
        self.origin = origin

    def append(self) -> IO[bytes]:
        return self.path.open("ab")

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)
        self.origin = None

    def commit(self) -> None:
        """Flush the complete file to disk and rename it."""
        sync(self.path)
        self.path.replace(self.target)
        sync(self.target.parent)
        self.discard()

    def _read_origin(self) -> _Origin | None:
        try:
            return _Origin(**json.loads(self._record.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None


@dataclass
class _Transfer:
    """The transfer of one file from its mirrors to a partial file."""

    session: requests.Session
    partial: _Partial
    size: int | None
    sha256: str | None
    expected: Content | None
    progress: Callable[[int], None]
    policy: RetryPolicy
    reported: int = 0  # bytes passed to `progress`
    received: bool = False  # whether a server has answered
    began: float = field(default_factory=time.monotonic)

    def from_any(self, addresses: Sequence[str]) -> Fetched:
        """Fetch from the first mirror that has the file, starting with the partial's origin."""
        self._report()
        origin = self.partial.origin
        reasons, transient, offline = [], False, False
        for address in sorted(addresses, key=lambda one: origin is None or one != origin.address):
            try:
                return self._from(address)
            except PermanentError as error:
                reasons.append(f"{address} {error}")
            except TransientError as error:
                times = f", {self.policy.attempts} times in a row"
                reasons.append(f"{address} {error}{'' if error.offline else times}")
                transient, offline = True, error.offline
        fix = (
            "check the network and the proxy (HTTPS_PROXY), then rerun the command"
            if offline
            else "rerun the command later"
            if transient
            else "correct the addresses, or the size or digest of the file"
        )
        if self.partial.size:
            fix += f" to resume at byte {self.partial.size:,}"
        raise FsckitError(
            f"{self.partial.target}: cannot be fetched: {printable('; '.join(reasons))}; {fix}"
        )

    def _from(self, address: str) -> Fetched:
        """Fetch from one address; retry as long as new bytes arrive."""
        failures, furthest = 0, self.partial.size
        while True:
            try:
                in_one_go = self._receive(address)
                return self._finish(in_one_go)
            except TransientError as error:
                if self.partial.size > furthest:
                    failures, furthest = 0, self.partial.size
                failures += 1
                if failures >= self.policy.attempts or (error.offline and self._waited_offline()):
                    raise
                self.policy.wait(address, failures, error)

    def _waited_offline(self) -> bool:
        """Whether no server has answered, for as long as the policy allows."""
        seconds = time.monotonic() - self.began
        return not self.received and seconds > self.policy.offline

    def _receive(self, address: str) -> bool:
        """Receive the missing bytes; return whether they are the whole file."""
        origin = self.partial.origin
        if (
            origin is not None
            and origin.total == self.partial.size
            and (origin.address == address or self.sha256)
        ):
            return False  # an earlier run was killed before renaming the complete file
        headers = self._range(address)
        with http.get(self.session, address, headers, self.policy.timeout) as response:
            self.received = True
            if response.status_code == HTTPStatus.OK:
                self._begin(response, address)
            else:
                self._check_range(response, address)
            self._append(response)
            return response.status_code == HTTPStatus.OK

    def _range(self, address: str) -> dict[str, str]:
        """Headers that request only the missing bytes, if they are sure to match the others."""
        origin, have = self.partial.origin, self.partial.size
        if origin is None or not have:
            return {}
        if origin.address == address and origin.etag:
            return {"Range": f"bytes={have}-", "If-Range": origin.etag}
        return {"Range": f"bytes={have}-"} if self.sha256 else {}

    def _check_range(self, response: requests.Response, address: str) -> None:
        """Restart unless the response continues the same file."""
        origin = self.partial.origin
        assert origin is not None
        start, _, total = response.headers.get("Content-Range", "").partition("/")
        same_start = start.startswith(f"bytes {self.partial.size}-")
        same_total = origin.total is None or total in ("*", str(origin.total))
        # Some servers obey Range but ignore If-Range.
        same_etag = address != origin.address or http.strong_etag(response) in (None, origin.etag)
        if not (same_start and same_total and same_etag):
            self._restart("now serves a different file")

    def _begin(self, response: requests.Response, address: str) -> None:
        """Start the partial file with the first bytes, unless their content is wrong."""
        origin = _Origin(address, http.strong_etag(response), http.content_length(response))
        if self.size is not None and origin.total not in (None, self.size):
            raise PermanentError(f"has {origin.total:,} bytes, not {self.size:,}")
        first = b"".join(http.blocks(response, FIRST))
        why = complaint(first, self.expected)
        if why is not None:
            raise PermanentError(f"sent {why}")
        self.partial.begin(origin)
        with self.partial.append() as file:
            file.write(first)
        self._report()

    def _append(self, response: requests.Response) -> None:
        origin = self.partial.origin
        assert origin is not None
        with self.partial.append() as file:
            for block in http.blocks(response):
                file.write(block)
                file.flush()  # a killed process keeps what it received
                self._report()
                if self.size is not None and self.partial.size > self.size:
                    self._restart(f"sent more than {self.size:,} bytes")
        have = self.partial.size
        if origin.total is not None and have < origin.total:
            raise TransientError(f"stopped at byte {have:,} of {origin.total:,}")

    def _finish(self, in_one_go: bool) -> Fetched:
        """Check the complete file and rename it.

        If a resumed file is wrong, an earlier part may be the cause, so it restarts; refetching
        a file that came in one go would not help.
        """
        origin, size = self.partial.origin, self.partial.size
        assert origin is not None
        wrong = None
        if self.size not in (None, size):
            wrong = f"has {size:,} bytes, not {self.size:,}"
        digest = _digest(self.partial.path)
        if self.sha256 not in (None, digest):
            wrong = wrong or f"has sha256 {digest}, not {self.sha256}"
        if wrong is None:
            self.partial.commit()
            return Fetched(origin.address, size, digest, origin.etag)
        if in_one_go:
            self.partial.discard()
            self._report()
            raise PermanentError(wrong)
        self._restart(wrong)

    def _restart(self, why: str) -> NoReturn:
        self.partial.discard()
        self._report()
        raise TransientError(why)

    def _report(self) -> None:
        have = self.partial.size
        if have != self.reported:
            self.progress(have - self.reported)
            self.reported = have
