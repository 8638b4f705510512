"""What the Hugging Face hub refuses and how the network fails, as one sentence each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fscdata.base.errors import FsckitError, first_line
from fscdata.base.extras import requires
from fscdata.base.text import printable

_NO_RIGHT = (401, 403)
_SETTINGS = "HF_ENDPOINT and the proxy (HTTPS_PROXY)"
# Releases of huggingface_hub differ in the library below them.
_NETWORK = {"httpcore", "httpcore2", "httpx", "httpx2", "requests", "urllib3"}


def require_library() -> None:
    """Raises FsckitError where huggingface_hub is not installed."""
    with requires("download", "the Hugging Face hub"):
        import huggingface_hub  # noqa: F401, PLC0415


@contextmanager
def in_one_sentence(endpoint: str, name: str, revision: str) -> Iterator[None]:
    """The errors of the block, which asks a hub about a repository.

    Raises:
        FsckitError: the hub refused, cannot be reached, or is none.
    """
    try:
        yield
    except Exception as error:
        reason = refusal(error, endpoint, revision) or _failure(error, endpoint)
        if reason is None:
            raise
        raise FsckitError(f"{printable(name)}: {reason}") from None


@contextmanager
def waits_told(tell: Callable[[str], None]) -> Iterator[None]:
    """What the library says of its waits goes to `tell`, and not to stderr across a bar."""
    logger = logging.getLogger("huggingface_hub")
    before, logger.handlers = logger.handlers, [_Teller(tell)]
    try:
        yield
    finally:
        logger.handlers = before


class _Teller(logging.Handler):
    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(record.getMessage())


def refusal(error: Exception, endpoint: str, revision: str, path: str = "") -> str | None:
    """What the hub does not give, and how to come by it; None if the error is about another thing.

    `path` is that of the file that was asked for.
    """
    from huggingface_hub import errors  # noqa: PLC0415

    if isinstance(error, errors.GatedRepoError):
        return (
            f"its owner wants to be asked for access; do so on its page at {endpoint}, then set "
            f"HF_TOKEN to your token from {endpoint}/settings/tokens, or run 'hf auth login'"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{endpoint} has no such data set repository, or it is private; check the name, or "
            f"set HF_TOKEN to a token that may read it"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"has no revision '{printable(revision)}'; give a branch, a tag or a whole commit"
    if isinstance(error, errors.EntryNotFoundError):
        return (
            f"the hub lists '{printable(path)}' at commit {revision} but does not have it; try "
            f"again later, or set HF_ENDPOINT to another mirror"
        )
    if isinstance(error, errors.HFValidationError):
        return "is no name of a repository; write OWNER/NAME"
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code in _NO_RIGHT:
        return (
            f"{endpoint} answers {error.response.status_code}; set HF_TOKEN to a valid token from "
            f"{endpoint}/settings/tokens, or unset a stale one"
        )
    return None


def _failure(error: Exception, endpoint: str) -> str | None:
    """What is wrong with the network, or with the hub itself."""
    from huggingface_hub import errors  # noqa: PLC0415

    if isinstance(error, errors.OfflineModeIsEnabled):
        return "nothing is asked of the hub as long as HF_HUB_OFFLINE is set; unset it"
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        return f"{endpoint} answers {status}; try again later, or set HF_ENDPOINT to a mirror"
    # Before the network's, since requests' error of what is no JSON is both.
    if isinstance(error, (ValueError, KeyError, TypeError)):
        return f"{endpoint} does not answer as a Hugging Face hub does; check {_SETTINGS}"
    if type(error).__module__.partition(".")[0] in _NETWORK or isinstance(error, OSError):
        reason = first_line(error)
        return f"{endpoint} cannot be reached ({reason}); check the network, {_SETTINGS}"
    return None
