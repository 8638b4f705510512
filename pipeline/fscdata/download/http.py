"""An HTTP request whose every failure either lasts or passes.

Proxies, certificates and credentials are those that `requests` takes from the environment
(HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE, ~/.netrc).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus

from fscdata import __version__
from fscdata.base.extras import requires
from fscdata.download.patience import LastingError, PassingError, seconds_asked

with requires("download", "downloading"):
    import requests
    import urllib3

MAX_REDIRECTS = 10
BLOCK = 2**18  # bytes read at a time
# A busy server's answers, and those of a proxy that could not reach it.
_PASSING = frozenset({408, 425, 429, *range(500, 600)})


def session(headers: Mapping[str, str]) -> requests.Session:
    """A session that knows http:// and https:// alone, where redirections lead elsewhere too."""
    made = requests.Session()
    made.max_redirects = MAX_REDIRECTS
    # Compressed on the way, a file has neither the size nor the byte ranges that are known of it.
    made.headers.update(
        {"User-Agent": f"fsckit/{__version__}", **headers, "Accept-Encoding": "identity"}
    )
    return made


@contextmanager
def ask(
    session: requests.Session, address: str, headers: Mapping[str, str], timeout: float
) -> Iterator[requests.Response]:
    """The response to a GET, of status 200; with a `Range` among the headers also 206 or 416.

    Raises:
        LastingError, PassingError: there is none; what the server does instead.
    """
    wanted = {HTTPStatus.OK}
    if "Range" in headers:
        wanted |= {HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE}
    with _get(session, address, headers, timeout) as response:
        answer = f"answers {response.status_code} {response.reason or ''}".rstrip()
        if response.status_code in _PASSING:
            raise PassingError(answer, seconds_asked(response.headers))
        if response.status_code not in wanted:
            raise LastingError(answer)
        yield response


def size_at(session: requests.Session, address: str, timeout: float) -> int | None:
    """Bytes of a file, as its server says without sending it; None where it does not."""
    try:
        with session.head(address, allow_redirects=True, timeout=timeout) as response:
            return content_length(response) if response.ok else None
    except (requests.RequestException, ValueError, OSError):  # who fetches it, hears the reason
        return None


def _get(
    session: requests.Session, address: str, headers: Mapping[str, str], timeout: float
) -> requests.Response:
    try:
        return session.get(address, headers=dict(headers), stream=True, timeout=timeout)
    except requests.TooManyRedirects:
        raise LastingError(f"redirects more than {MAX_REDIRECTS} times") from None
    except ValueError as error:  # InvalidSchema, InvalidURL, and what urllib.parse says
        raise LastingError(f"leads to no http(s) address ({_cause(error)})") from None
    except requests.Timeout:
        raise PassingError(f"sends nothing for {timeout:g} s") from None
    except requests.RequestException as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise LastingError(
                "has a certificate that this machine does not trust (REQUESTS_CA_BUNDLE names the "
                "file of those that it should)"
            ) from None
        raise PassingError(f"cannot be reached ({_cause(error)})") from None
    except OSError as error:  # REQUESTS_CA_BUNDLE names no file
        raise LastingError(f"cannot be asked ({error})") from None


def blocks(response: requests.Response, at_most: int | None = None) -> Iterator[bytes]:
    """The body's next bytes as they come, as they are on the server; all, or `at_most` so many.

    Raises:
        PassingError: they stop before the end.
    """
    left = at_most
    while left != 0:
        try:
            block = response.raw.read1(min(BLOCK, left or BLOCK), decode_content=False)
        except urllib3.exceptions.ReadTimeoutError:
            raise PassingError("stops sending") from None
        except urllib3.exceptions.HTTPError as error:
            raise PassingError(f"breaks off ({_cause(error)})") from None
        if not block:
            return
        if left is not None:
            left -= len(block)
        yield block


def strong_etag(response: requests.Response) -> str | None:
    """The ETag, if it stands for the very bytes; by a weak one no range can be asked for."""
    etag: str = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else None


def content_length(response: requests.Response) -> int | None:
    """Bytes, as the server says; None where it does not, or says what no file has."""
    length: str = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and len(length) < 20 else None


def _cause(error: BaseException) -> str:
    """The innermost reason that a library gives, without its objects' names."""
    return str(error).rpartition(": ")[2].strip("()'\" ")[:200] or type(error).__name__
