"""HTTP requests; every failure is either transient or permanent.

`requests` takes proxies, certificates and credentials from the environment
(HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE, ~/.netrc).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from threading import Event

from fscdata import __version__
from fscdata.base.extras import requires
from fscdata.base.parallel import run_concurrently
from fscdata.download.fields import RemoteFile

with requires("download", "downloading"):
    import requests
    import urllib3

MAX_REDIRECTS = 10
BLOCK = 2**18  # bytes read at a time
# Returned by a busy server, or by a proxy that cannot reach it.
_TRANSIENT = frozenset({408, 425, 429, *range(500, 600)})

# In urllib3's messages: name resolution failed, or no route leads out of this machine.
_OFFLINE = ("Failed to resolve", "Network is unreachable", "No route to host")

# Sizes are requested before the download and only improve the time estimate, so they must not
# delay it much.
SIZE_THREADS = 8
SIZE_TIMEOUT = 5.0  # seconds for each server
SIZE_TIME_LIMIT = 15.0  # seconds for all of them


class PermanentError(Exception):
    """A failure of one address that a retry would repeat."""


class TransientError(Exception):
    """A failure of one address that a retry may fix.

    Attributes:
        after: seconds to wait, as requested by the server.
        offline: whether this machine seems to have no network.
    """

    def __init__(self, reason: str, after: float = 0.0, *, offline: bool = False) -> None:
        super().__init__(reason)
        self.after = after
        self.offline = offline


@dataclass(frozen=True)
class RetryPolicy:
    """When to give up on an address; times are in seconds.

    Attributes:
        attempts: consecutive failures without a new byte.
        first_wait: the wait after the first failure; it doubles with each further one. A longer
            Retry-After from the server is respected.
        longest_wait: limit of every wait, including Retry-After.
        offline: how long to retry without a network, if no server has answered yet; a network
            that is lost later is worth a longer wait.
        timeout: how long a server may be silent.
        sleep: does the waiting.
        say: called with a message before each wait.
    """

    attempts: int = 8
    first_wait: float = 1.0
    longest_wait: float = 120.0
    offline: float = 5.0
    timeout: float = 60.0
    sleep: Callable[[float], None] = time.sleep
    say: Callable[[str], None] = lambda sentence: None

    def wait(self, address: str, failures: int, error: TransientError) -> None:
        """Wait before the next attempt."""
        seconds = min(max(self.first_wait * 2 ** (failures - 1), error.after), self.longest_wait)
        self.say(f"{address} {error}; retrying in {seconds:.0f} s")
        self.sleep(seconds)


def open_session(headers: Mapping[str, str]) -> requests.Session:
    """A session that only follows redirects to http:// and https://."""
    session = requests.Session()
    session.max_redirects = MAX_REDIRECTS
    # A compressed transfer has neither the size nor the byte ranges of the file itself.
    session.headers.update(
        {"User-Agent": f"fsckit/{__version__}", **headers, "Accept-Encoding": "identity"}
    )
    return session


@contextmanager
def get(
    session: requests.Session, address: str, headers: Mapping[str, str], timeout: float
) -> Iterator[requests.Response]:
    """The response to a GET, with status 200, or 206 or 416 if `headers` ask for a `Range`.

    Raises:
        PermanentError, TransientError: the request failed.
    """
    expected = {HTTPStatus.OK}
    if "Range" in headers:
        expected |= {HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE}
    with _send(session, address, headers, timeout) as response:
        answer = f"returned {response.status_code} {response.reason or ''}".rstrip()
        if response.status_code in _TRANSIENT:
            raise TransientError(answer, retry_after(response.headers))
        if response.status_code not in expected:
            raise PermanentError(answer)
        yield response


def _send(
    session: requests.Session, address: str, headers: Mapping[str, str], timeout: float
) -> requests.Response:
    try:
        return session.get(address, headers=dict(headers), stream=True, timeout=timeout)
    except requests.TooManyRedirects:
        raise PermanentError(f"redirected more than {MAX_REDIRECTS} times") from None
    except ValueError as error:  # InvalidSchema, InvalidURL, and what urllib.parse raises
        raise PermanentError(f"leads to an invalid http(s) address ({_cause(error)})") from None
    except requests.Timeout:
        raise TransientError(f"sent nothing for {timeout:g} s") from None
    except requests.RequestException as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise PermanentError(
                "has a certificate that this machine does not trust (set REQUESTS_CA_BUNDLE to a "
                "file of certificates to trust)"
            ) from None
        offline = any(sign in str(error) for sign in _OFFLINE)
        raise TransientError(f"cannot be reached ({_cause(error)})", offline=offline) from None
    except OSError as error:  # REQUESTS_CA_BUNDLE names a missing file
        raise PermanentError(f"cannot be requested ({error})") from None


def blocks(response: requests.Response, at_most: int | None = None) -> Iterator[bytes]:
    """The body as it arrives, not decompressed: all of it, or the next `at_most` bytes.

    Raises:
        TransientError: the body ends early.
    """
    left = at_most
    while left != 0:
        try:
            block = response.raw.read1(min(BLOCK, left or BLOCK), decode_content=False)
        except urllib3.exceptions.ReadTimeoutError:
            raise TransientError("stopped sending") from None
        except urllib3.exceptions.HTTPError as error:
            raise TransientError(f"disconnected ({_cause(error)})") from None
        if not block:
            return
        if left is not None:
            left -= len(block)
        yield block


def strong_etag(response: requests.Response) -> str | None:
    """The ETag if it identifies the exact bytes; a weak one cannot be used with ranges."""
    etag: str = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else None


def content_length(response: requests.Response) -> int | None:
    """The body's size in bytes; None if it is missing or absurd."""
    length: str = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and len(length) < 20 else None


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds to wait according to Retry-After (RFC 9110: seconds or a date); 0 without one."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        then = parsedate_to_datetime(value)
        return max((then - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError):  # not a date, no time zone, or out of range
        return 0.0


def ask_sizes(files: Sequence[RemoteFile]) -> dict[str, int]:
    """Sizes in bytes by file name, from the first mirror that answers HEAD in time.

    Files whose size no server gives are omitted.
    """
    stopped = Event()

    def ask(file: RemoteFile) -> tuple[str, int | None]:
        with open_session({}) as session:
            for address in file.addresses:
                # Some servers report 0 for content that they generate on request.
                if not stopped.is_set() and (size := _ask_size(session, address)):
                    return file.name, size
        return file.name, None

    answers = run_concurrently(ask, files, SIZE_THREADS, stopped, SIZE_TIME_LIMIT)
    return {name: size for name, size in answers if size is not None}


def _ask_size(session: requests.Session, address: str) -> int | None:
    try:
        with session.head(address, allow_redirects=True, timeout=SIZE_TIMEOUT) as response:
            return content_length(response) if response.ok else None
    except (requests.RequestException, ValueError, OSError):  # the download will report it
        return None


def _cause(error: BaseException) -> str:
    """The innermost reason in a library's message, without its object names."""
    return str(error).rpartition(": ")[2].strip("()'\" ")[:200] or type(error).__name__
