"""A data set repository of the Hugging Face hub, or of a mirror of it, at one commit.

`huggingface_hub` knows the hub: lists, revisions, tokens, refusals. The bytes come through
`fetch`: the library's own download (2.4) begins a file anew after every kill, and leaves a cache in
the folder. The hub is `HF_ENDPOINT`, the token `HF_TOKEN` or that of `hf auth login`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from threading import Event, Lock
from urllib.parse import quote

from fscdata.base.errors import FsckitError
from fscdata.base.parallel import run_concurrently
from fscdata.base.text import printable
from fscdata.download.fetch import PATIENCE, fetch
from fscdata.download.hub_errors import in_one_sentence, refusal, require_library, waits_told
from fscdata.download.patience import Patience
from fscdata.manifest import expand_braces

AT_ONCE = 4  # files; the hub slows down those who ask for many


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository; of small ones, which are no LFS files, the hub gives no sha256."""

    path: str
    size: int
    sha256: str | None


@dataclass(frozen=True)
class Repository:
    """The files of a data set repository at a commit, by path."""

    endpoint: str
    name: str
    commit: str
    files: tuple[RemoteFile, ...]

    def address(self, file: RemoteFile) -> str:
        """Where the hub serves a file; large ones it redirects to its store."""
        return f"{self.endpoint}/datasets/{self.name}/resolve/{self.commit}/{quote(file.path)}"


@dataclass(frozen=True)
class Downloaded:
    """A file that is there whole, under its path in the repository."""

    path: str
    address: str
    size: int
    sha256: str


def list_files(
    name: str, revision: str | None = None, tell: Callable[[str], None] = lambda sentence: None
) -> Repository:
    """The files of the repository `OWNER/NAME` at a commit, branch or tag (main, if None).

    `tell` hears of waits for a busy hub.

    Raises:
        FsckitError: the library is not installed, the hub cannot be reached or refuses, there is no
            such repository or revision.
    """
    require_library()
    from huggingface_hub import HfApi, constants  # noqa: PLC0415
    from huggingface_hub.hf_api import RepoFile  # noqa: PLC0415

    # The library reads it once, when it is imported.
    endpoint = os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/")
    revision = revision or "main"
    with in_one_sentence(endpoint, name, revision), waits_told(tell):
        commit = _commit(endpoint, name, revision)
        tree = HfApi(endpoint).list_repo_tree(
            name, repo_type="dataset", revision=commit, recursive=True
        )
        files = tuple(
            RemoteFile(entry.path, entry.size, entry.lfs.sha256 if entry.lfs else None)
            for entry in sorted(tree, key=lambda entry: entry.path)
            if isinstance(entry, RepoFile)
        )
    return Repository(endpoint, name, commit, files)


def select(repository: Repository, patterns: Sequence[str]) -> list[RemoteFile]:
    """The files that the patterns name, each once: `{00000..00013}.tar`, where every number must be
    there; `*.tar`, of which hidden files are none; or plain paths.

    Raises:
        FsckitError: a pattern names no file, or a file's path may lead out of its folder.
    """
    by_path = {file.path: file for file in repository.files}
    visible = [path for path in by_path if not _is_hidden(path)]
    chosen: dict[str, RemoteFile] = {}
    for name in (name for pattern in patterns for name in expand(pattern)):
        paths = [name] if name in by_path else [p for p in visible if fnmatchcase(p, name)]
        if not paths:
            raise FsckitError(
                f"{repository.name}: has no '{printable(name)}' at commit {repository.commit}; "
                f"correct the manifest, or give another revision"
            )
        chosen |= {path: by_path[path] for path in paths}
    for path in chosen:
        _refuse_path(repository, path)
    return list(chosen.values())


def download(
    repository: Repository,
    patterns: Sequence[str],
    folder: Path,
    progress: Callable[[int], None],
    patience: Patience = PATIENCE,
) -> Generator[Downloaded, None, None]:
    """Bring the files that the patterns name into a folder, under their paths in the repository.

    Each is told of as soon as it is there whole. One that is there with its size and digest stays
    as it is; a part of one is gone on with. `progress` is that of `fetch`, for all files together,
    and is called by one thread at a time. Closing the generator stops the download.

    Raises:
        FsckitError: the hub cannot be reached or refuses, a file is not as it is listed, or the
            folder cannot be written. What has come stays, to be gone on with.
    """
    require_library()
    stopped, lock = Event(), Lock()

    def count(size: int) -> None:
        if stopped.is_set():
            raise _StoppedError
        with lock:
            progress(size)

    def pause(seconds: float) -> None:
        if stopped.wait(seconds):
            raise _StoppedError

    def tell(sentence: str) -> None:
        if not stopped.is_set():
            patience.tell(sentence)

    def bring(file: RemoteFile) -> Downloaded:
        return _bring(repository, file, folder, count, replace(patience, sleep=pause, tell=tell))

    files = select(repository, patterns)
    with closing(run_concurrently(bring, files, AT_ONCE, stopped)) as came:
        yield from came


class _StoppedError(Exception):
    """Ends the other files when one has failed."""


def _bring(
    repository: Repository,
    file: RemoteFile,
    folder: Path,
    progress: Callable[[int], None],
    patience: Patience,
) -> Downloaded:
    """One file, from the hub unless it is there."""
    address = repository.address(file)
    try:
        fetched = fetch(
            [address],
            folder / file.path,
            size=file.size,
            sha256=file.sha256,
            progress=progress,
            headers=_headers(),
            patience=patience,
        )
    except FsckitError:
        _refuse_unavailable(repository, file)
        raise
    return Downloaded(file.path, address, fetched.size, fetched.sha256)


def _refuse_unavailable(repository: Repository, file: RemoteFile) -> None:
    """Raises FsckitError with the reason, if it is the hub that does not give a file."""
    from huggingface_hub import get_hf_file_metadata  # noqa: PLC0415

    try:
        get_hf_file_metadata(repository.address(file), endpoint=repository.endpoint)
    except Exception as error:
        reason = refusal(error, repository.endpoint, repository.commit, file.path)
        if reason is not None:
            raise FsckitError(f"{repository.name}: {reason}") from None


def _commit(endpoint: str, name: str, revision: str) -> str:
    """The commit of a revision; `HfApi.dataset_info` would give up at the first 503."""
    from huggingface_hub.utils import (  # noqa: PLC0415
        hf_raise_for_status,
        http_backoff,
        validate_repo_id,
    )

    validate_repo_id(name)
    address = f"{endpoint}/api/datasets/{name}/revision/{quote(revision, safe='')}"
    response = http_backoff("GET", address, headers=_headers())
    hf_raise_for_status(response)
    commit: str = response.json()["sha"]
    return commit


def _headers() -> dict[str, str]:
    """Who asks, and the token if there is one."""
    from huggingface_hub.utils import build_hf_headers  # noqa: PLC0415

    headers: dict[str, str] = build_hf_headers(library_name="fsckit")
    return headers


def expand(pattern: str) -> list[str]:
    """What a pattern's braces stand for.

    Raises:
        FsckitError: a brace is not closed, or they stand for too many files.
    """
    try:
        return expand_braces(pattern)
    except ValueError as error:
        raise FsckitError(f"{printable(str(error))}; write it as {{00000..00013}}.tar") from None


def _is_hidden(path: str) -> bool:
    """Whether a shell's `*` would pass it by; a part of a file that `fetch` keeps is hidden too."""
    return any(re.match(r"\.[^.\\]", part) for part in path.split("/"))


def _refuse_path(repository: Repository, path: str) -> None:
    """Raises FsckitError where a stranger's path is not that of a visible file below a folder."""
    parts = path.split("/")
    plain = path.isprintable() and "\\" not in path and ":" not in path
    if not plain or any(not part or part.startswith(".") for part in parts):
        raise FsckitError(
            f"{repository.name}: has a file named '{printable(path)}', which is refused since it "
            f"may lead out of the folder; tell its owner"
        )
