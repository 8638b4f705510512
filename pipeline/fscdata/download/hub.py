"""A data set repository on the Hugging Face hub, or on a mirror of it, at one commit.

`huggingface_hub` lists files and resolves revisions, tokens and refusals. `fetch_file` fetches the
files, because the library's own download (2.4) restarts a file after every kill and leaves a cache
in the folder. `HF_ENDPOINT` sets the hub; the token comes from `HF_TOKEN` or `hf auth login`.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from threading import Event, Lock
from typing import Any
from urllib.parse import quote

from fscdata.base.errors import FsckitError, first_line
from fscdata.base.extras import requires
from fscdata.base.parallel import run_concurrently
from fscdata.base.text import printable
from fscdata.download.fetch import RETRY_POLICY, fetch_file
from fscdata.download.fields import expand_braces
from fscdata.download.http import RetryPolicy

with requires("download", "the Hugging Face hub"):
    from huggingface_hub import HfApi, constants, errors, get_hf_file_metadata
    from huggingface_hub.hf_api import RepoFile
    from huggingface_hub.utils import (
        build_hf_headers,
        hf_raise_for_status,
        http_backoff,
        validate_repo_id,
    )

_FIRST_WAITS = (1, 2)  # seconds
THREADS = 4  # the hub throttles clients that open more connections

_FORBIDDEN = (401, 403)
_SETTINGS = "HF_ENDPOINT and the proxy (HTTPS_PROXY)"
# Releases of huggingface_hub use different HTTP libraries.
_NETWORK = {"httpcore", "httpcore2", "httpx", "httpx2", "requests", "urllib3"}


class UnreachableError(FsckitError):
    """The hub cannot be reached."""


@dataclass(frozen=True)
class HubFile:
    """A file in a repository; the hub publishes a sha256 only for files in LFS."""

    path: str
    size: int
    sha256: str | None


@dataclass(frozen=True)
class HubFetched:
    """A complete file, by its path in the repository."""

    path: str
    address: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Repository:
    """The files of a data set repository at a commit, sorted by path."""

    endpoint: str
    name: str
    commit: str
    files: tuple[HubFile, ...]

    def address(self, file: HubFile) -> str:
        """Where the hub serves a file; it redirects large files to its storage."""
        return f"{self.endpoint}/datasets/{self.name}/resolve/{self.commit}/{quote(file.path)}"

    def select(self, patterns: Sequence[str], optional_stars: bool = False) -> list[HubFile]:
        """The files that the patterns name, each once.

        A pattern is a path, a series such as `{00000..00013}.tar`, which must be complete, or a
        wildcard such as `*.tar`, which skips hidden files.

        Args:
            patterns: for paths in the repository.
            optional_stars: whether a wildcard may match no file.

        Raises:
            FsckitError: a pattern matches no file, or a file's path could leave its folder.
        """
        by_path = {file.path: file for file in self.files}
        visible = [path for path in by_path if not _is_hidden(path)]
        chosen: dict[str, HubFile] = {}
        for name in (name for pattern in patterns for name in expand(pattern)):
            paths = [name] if name in by_path else [p for p in visible if fnmatchcase(p, name)]
            if not paths and not (optional_stars and "*" in name):
                raise FsckitError(
                    f"{self.name}: has no '{printable(name)}' at commit {self.commit}; correct the "
                    f"manifest, or choose another revision"
                )
            chosen |= {path: by_path[path] for path in paths}
        for path in chosen:
            _check_path(self, path)
        return list(chosen.values())

    def fetch_files(
        self,
        files: Sequence[HubFile],
        folder: Path,
        progress: Callable[[int], None],
        say: Callable[[str], None] = lambda sentence: None,
        policy: RetryPolicy = RETRY_POLICY,
    ) -> Generator[HubFetched, None, None]:
        """Fetch files into a folder, under their paths in the repository.

        Yields each file when it is complete. Complete files are skipped, partial ones resume.
        Closing the generator stops the threads.

        Args:
            files: files of this repository.
            folder: where they go.
            progress: as in `fetch_file`, for all files; called by one thread at a time.
            say: called with a message before each wait.
            policy: when to give up; its `say` and `sleep` are not used.

        Raises:
            FsckitError: the hub cannot be reached or refuses, a file differs from its listing, or
                the folder cannot be written. Partial files stay for another call to resume.
        """
        stopped, lock = Event(), Lock()

        def count(size: int) -> None:
            if stopped.is_set():
                raise _StoppedError
            with lock:
                progress(size)

        def sleep(seconds: float) -> None:
            if stopped.wait(seconds):
                raise _StoppedError

        def say_unless_stopped(sentence: str) -> None:
            if not stopped.is_set():
                say(sentence)

        stoppable = replace(policy, sleep=sleep, say=say_unless_stopped)

        def fetch_one(file: HubFile) -> HubFetched:
            return self._fetch(file, folder, count, stoppable)

        with closing(run_concurrently(fetch_one, files, THREADS, stopped)) as fetched:
            yield from fetched

    def _fetch(
        self,
        file: HubFile,
        folder: Path,
        progress: Callable[[int], None],
        policy: RetryPolicy,
    ) -> HubFetched:
        address = self.address(file)
        try:
            fetched = fetch_file(
                [address],
                folder / file.path,
                size=file.size,
                sha256=file.sha256,
                progress=progress,
                headers=_headers(),
                policy=policy,
            )
        except FsckitError:
            self._raise_refusal(file)
            raise
        return HubFetched(file.path, address, fetched.size, fetched.sha256)

    def _raise_refusal(self, file: HubFile) -> None:
        """Raises FsckitError with the hub's reason if the hub refuses the file."""
        try:
            get_hf_file_metadata(self.address(file), endpoint=self.endpoint)
        except Exception as error:
            reason = _refusal(error, self.endpoint, self.commit, file.path)
            if reason is not None:
                raise FsckitError(f"{self.name}: {reason}") from None


class _StoppedError(Exception):
    """Stops the other threads when one file fails."""


def page(name: str) -> str:
    """The address of a repository's page."""
    return f"{_endpoint()}/datasets/{name}"


def _endpoint() -> str:
    # The library reads the variable only once, when it is imported.
    endpoint: str = os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/")
    return endpoint


def list_files(
    name: str, revision: str | None = None, say: Callable[[str], None] = lambda sentence: None
) -> Repository:
    """List the files of the repository `OWNER/NAME`.

    Args:
        name: the repository.
        revision: a commit, branch or tag; None for the main branch.
        say: called with a message before each wait for a busy hub.

    Raises:
        UnreachableError: the hub cannot be reached.
        FsckitError: the hub refuses, or the repository or revision is unknown.
    """
    endpoint = _endpoint()
    revision = revision or "main"
    with _hub_errors(endpoint, name, revision), _waits_reported(say):
        commit = _commit(endpoint, name, revision, say)
        tree = HfApi(endpoint).list_repo_tree(
            name, repo_type="dataset", revision=commit, recursive=True
        )
        files = tuple(
            HubFile(entry.path, entry.size, entry.lfs.sha256 if entry.lfs else None)
            for entry in sorted(tree, key=lambda entry: entry.path)
            if isinstance(entry, RepoFile)
        )
    return Repository(endpoint, name, commit, files)


def _commit(endpoint: str, name: str, revision: str, say: Callable[[str], None]) -> str:
    """The commit of a revision, with retries; `HfApi.dataset_info` gives up at the first 503."""
    validate_repo_id(name)
    address = f"{endpoint}/api/datasets/{name}/revision/{quote(revision, safe='')}"
    response = _first_response(address, say)
    hf_raise_for_status(response)
    commit: str = response.json()["sha"]
    return commit


def _first_response(address: str, say: Callable[[str], None]) -> Any:
    """The response to the first request, which shows within seconds whether there is a network.

    A busy hub is retried as usual, a connection that fails only twice.
    """
    for wait in _FIRST_WAITS:
        try:
            return http_backoff("GET", address, headers=_headers(), retry_on_exceptions=())
        except Exception as error:
            if not _is_network(error):
                raise
            say(f"{address} cannot be reached ({first_line(error)}); retrying in {wait} s")
            time.sleep(wait)
    return http_backoff("GET", address, headers=_headers(), retry_on_exceptions=())


def _is_network(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] in _NETWORK or isinstance(error, OSError)


def _headers() -> dict[str, str]:
    """The user agent, and the token if the user has one."""
    headers: dict[str, str] = build_hf_headers(library_name="fsckit")
    return headers


def expand(pattern: str) -> list[str]:
    """The names that a pattern's braces stand for.

    Raises:
        FsckitError: a brace is not closed, or the braces stand for too many files.
    """
    try:
        return expand_braces(pattern)
    except ValueError as error:
        raise FsckitError(f"{printable(str(error))}; write it as {{00000..00013}}.tar") from None


def _is_hidden(path: str) -> bool:
    """Whether a shell's `*` skips the path. Partial files of `fetch_file` are hidden too."""
    return any(re.match(r"\.[^.\\]", part) for part in path.split("/"))


def _check_path(repository: Repository, path: str) -> None:
    """Raises FsckitError unless a path names a visible file inside the folder."""
    parts = path.split("/")
    plain = path.isprintable() and "\\" not in path and ":" not in path
    if not plain or any(not part or part.startswith(".") for part in parts):
        raise FsckitError(
            f"{repository.name}: refused file '{printable(path)}', whose path could leave the "
            f"folder; contact its owner"
        )


@contextmanager
def _hub_errors(endpoint: str, name: str, revision: str) -> Iterator[None]:
    """Turn hub and network errors in the block into one sentence.

    Raises:
        FsckitError: the hub refused, cannot be reached, or is not a hub.
    """
    try:
        yield
    except Exception as error:
        reason = _refusal(error, endpoint, revision) or _failure(error, endpoint)
        if reason is None:
            raise
        network = _is_network(error) and not isinstance(error, errors.HfHubHTTPError)
        kind = UnreachableError if network else FsckitError
        raise kind(f"{printable(name)}: {reason}") from None


@contextmanager
def _waits_reported(say: Callable[[str], None]) -> Iterator[None]:
    """Send the library's messages about waits to `say`; stderr has the progress bar."""
    logger = logging.getLogger("huggingface_hub")
    before, logger.handlers = logger.handlers, [_SayHandler(say)]
    try:
        yield
    finally:
        logger.handlers = before


class _SayHandler(logging.Handler):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(record.getMessage())


def _refusal(error: Exception, endpoint: str, revision: str, path: str = "") -> str | None:
    """Why the hub refused and what to do about it; None for other errors.

    `path` is the requested file.
    """
    if isinstance(error, errors.GatedRepoError):
        return (
            f"this repository is gated; request access on its page at {endpoint}, then set "
            f"HF_TOKEN to your token from {endpoint}/settings/tokens, or run 'hf auth login'"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{endpoint} has no such data set repository, or it is private; check the name, or "
            f"set HF_TOKEN to a token that can read it"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"unknown revision '{printable(revision)}'; use a branch, a tag or a full commit"
    if isinstance(error, errors.EntryNotFoundError):
        return (
            f"the hub lists '{printable(path)}' at commit {revision} but does not have it; retry "
            f"later, or set HF_ENDPOINT to another mirror"
        )
    if isinstance(error, errors.HFValidationError):
        return "not a repository name; write OWNER/NAME"
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code in _FORBIDDEN:
        return (
            f"{endpoint} returned {error.response.status_code}; set HF_TOKEN to a valid token from "
            f"{endpoint}/settings/tokens, or unset a stale one"
        )
    return None


def _failure(error: Exception, endpoint: str) -> str | None:
    """What is wrong with the network or the hub; None for other errors."""
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, which forbids requests to the hub; unset it"
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        return f"{endpoint} returned {status}; retry later, or set HF_ENDPOINT to a mirror"
    # Checked before OSError: the JSON error of `requests` is a ValueError too.
    if isinstance(error, (ValueError, KeyError, TypeError)):
        return f"{endpoint} does not behave like a Hugging Face hub; check {_SETTINGS}"
    if _is_network(error):
        reason = first_line(error)
        return f"{endpoint} cannot be reached ({reason}); check the network, {_SETTINGS}"
    return None
