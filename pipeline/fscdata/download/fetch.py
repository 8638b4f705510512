"""One file over HTTP: gone on with where it broke off, checked, named when it is whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from fscdata.base.errors import FsckitError
from fscdata.base.locks import file_lock
from fscdata.base.paths import access
from fscdata.base.text import printable
from fscdata.download import http
from fscdata.download.content import FIRST, Content, complaint
from fscdata.download.partial import Origin, Partial
from fscdata.download.patience import LastingError, PassingError, Patience

if TYPE_CHECKING:
    import requests

PATIENCE = Patience()


@dataclass(frozen=True)
class Fetched:
    """A whole file: `size` in bytes, the mirror that it came from and the strong ETag there.

    `address` and `etag` are None where the file was there already.
    """

    address: str | None
    size: int
    sha256: str
    etag: str | None


def fetch(
    addresses: Sequence[str],
    target: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    before: str | None = None,
    progress: Callable[[int], None] = lambda came: None,
    expected: Content | None = None,
    headers: Mapping[str, str] | None = None,
    patience: Patience = PATIENCE,
) -> Fetched:
    """Bring a file from the first of its mirrors that gives it whole.

    `target` is there whole or not at all. What has come of it lies beside it and is gone on with,
    if need be by the next process; without a strong ETag or a `sha256` nothing would tell a changed
    file, so it begins anew. A target that is there with this size and digest stays as it is;
    another is replaced.

    Args:
        addresses: http(s) addresses of one file, tried in turn.
        size: in bytes, if it is known.
        sha256: hexadecimal, if it is known; the whole file is hashed anyhow.
        before: sha256 of what came at an earlier time, which the file need not have now; a target
            that is there with another digest was changed since, and is replaced.
        progress: gets the bytes that came since it was last called, those that were there at first;
            fewer than none where the file begins anew.
        expected: checked on the first bytes.
        headers: of every request; `Authorization` does not follow a redirection to another host.

    Raises:
        FsckitError: no mirror gives the file, another process is at it, an address is not http(s),
            or the place cannot be written.
    """
    for address in addresses:
        _refuse_address(address)
    with file_lock(target), access(target, "written"), http.session(headers or {}) as session:
        there = _there(target, size, sha256 or before)
        if there is not None:
            progress(there.size)
            return there
        download = _Download(
            session, Partial(target), size, sha256 and sha256.lower(), expected, progress, patience
        )
        return download.from_any(addresses)


def _refuse_address(address: str) -> None:
    try:
        parts = urlsplit(address)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise FsckitError(f"{printable(address)}: not an http:// or https:// address; correct it")


def _there(target: Path, size: int | None, sha256: str | None) -> Fetched | None:
    """The file that is there, if it is the one that is wanted."""
    if not target.is_file() or size not in (None, target.stat().st_size):
        return None
    digest = _digest(target)
    if sha256 is not None and digest != sha256.lower():
        return None
    Partial(target).discard()  # a kill between the renaming and the tidying up
    return Fetched(None, target.stat().st_size, digest, None)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass
class _Download:
    session: requests.Session
    partial: Partial
    size: int | None
    sha256: str | None
    expected: Content | None
    progress: Callable[[int], None]
    patience: Patience
    told: int = 0  # bytes that `progress` knows of

    def from_any(self, addresses: Sequence[str]) -> Fetched:
        """The file from the first address that gives it; that of the part which is there first."""
        self._tell()
        origin = self.partial.origin
        reasons, passing = [], False
        for address in sorted(addresses, key=lambda one: origin is None or one != origin.address):
            try:
                return self._from(address)
            except LastingError as error:
                reasons.append(f"{address} {error}")
            except PassingError as error:
                reasons.append(f"{address} {error}, {self.patience.attempts} times in a row")
                passing = True
        mend = (
            "run the command again later"
            if passing
            else "correct the addresses or what is known of the file"
        )
        if self.partial.size:
            mend += f", it goes on at byte {self.partial.size:,}"
        raise FsckitError(
            f"{self.partial.target}: cannot be fetched: {printable('; '.join(reasons))}; {mend}"
        )

    def _from(self, address: str) -> Fetched:
        """The file from one address, with patience as long as more of it comes."""
        failures, furthest = 0, self.partial.size
        while True:
            try:
                in_one_go = self._receive(address)
                return self._finish(in_one_go)
            except PassingError as error:
                if self.partial.size > furthest:
                    failures, furthest = 0, self.partial.size
                failures += 1
                if failures >= self.patience.attempts:
                    raise
                self.patience.wait(address, failures, error)

    def _receive(self, address: str) -> bool:
        """All the bytes that are missing; whether none was there before."""
        origin = self.partial.origin
        if (
            origin is not None
            and origin.total == self.partial.size
            and (origin.address == address or self.sha256)
        ):
            return False  # killed before it got its name
        wanted = self._range(address)
        with http.ask(self.session, address, wanted, self.patience.timeout) as response:
            if response.status_code == HTTPStatus.OK:
                self._begin(response, address)
            else:
                self._refuse_other_part(response, address)
            self._append(response)
            return response.status_code == HTTPStatus.OK

    def _range(self, address: str) -> dict[str, str]:
        """The headers that ask for the missing bytes; none where there is no telling that they
        belong to those which are there."""
        origin, have = self.partial.origin, self.partial.size
        if origin is None or not have:
            return {}
        if origin.address == address and origin.etag:
            return {"Range": f"bytes={have}-", "If-Range": origin.etag}
        return {"Range": f"bytes={have}-"} if self.sha256 else {}

    def _refuse_other_part(self, response: requests.Response, address: str) -> None:
        """Start anew where the bytes are not the missing ones of the same file."""
        origin = self.partial.origin
        assert origin is not None
        start, _, total = response.headers.get("Content-Range", "").partition("/")
        there = start.startswith(f"bytes {self.partial.size}-")
        same_total = origin.total is None or total in ("*", str(origin.total))
        # Some servers heed Range and not If-Range.
        same_etag = address != origin.address or http.strong_etag(response) in (None, origin.etag)
        if not (there and same_total and same_etag):
            self._start_anew("has another file there now")

    def _begin(self, response: requests.Response, address: str) -> None:
        """Write the first bytes of a file that may be the one which is wanted."""
        origin = Origin(address, http.strong_etag(response), http.content_length(response))
        if self.size is not None and origin.total not in (None, self.size):
            raise LastingError(f"has {origin.total:,} bytes, not {self.size:,}")
        first = b"".join(http.blocks(response, FIRST))
        why = complaint(first, self.expected)
        if why is not None:
            raise LastingError(f"sends {why}")
        self.partial.begin(origin)
        with self.partial.append() as file:
            file.write(first)
        self._tell()

    def _append(self, response: requests.Response) -> None:
        origin = self.partial.origin
        assert origin is not None
        with self.partial.append() as file:
            for block in http.blocks(response):
                file.write(block)
                file.flush()
                self._tell()
                if self.size is not None and self.partial.size > self.size:
                    self._start_anew(f"sends more than {self.size:,} bytes")
        have = self.partial.size
        if origin.total is not None and have < origin.total:
            raise PassingError(f"breaks off at byte {have:,} of {origin.total:,}")

    def _finish(self, in_one_go: bool) -> Fetched:
        """Check the whole file and give it its name; a part of it may be what is wrong."""
        origin, size = self.partial.origin, self.partial.size
        assert origin is not None
        wrong = None
        if self.size not in (None, size):
            wrong = f"has {size:,} bytes, not {self.size:,}"
        digest = _digest(self.partial.path)
        if self.sha256 not in (None, digest):
            wrong = wrong or f"gives a file of sha256 {digest}, not {self.sha256}"
        if wrong is None:
            self.partial.commit()
            return Fetched(origin.address, size, digest, origin.etag)
        if in_one_go:
            self.partial.discard()
            self._tell()
            raise LastingError(wrong)
        self._start_anew(wrong)

    def _start_anew(self, why: str) -> NoReturn:
        self.partial.discard()
        self._tell()
        raise PassingError(why)

    def _tell(self) -> None:
        have = self.partial.size
        if have != self.told:
            self.progress(have - self.told)
            self.told = have
