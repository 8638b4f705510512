"""How large files are that nobody publishes a size of: their servers are asked."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from fscdata.download import http
from fscdata.manifest import RemoteFile

AT_ONCE = 8  # servers asked
TIMEOUT = 10.0  # seconds that one has for its answer


def ask_sizes(files: Sequence[RemoteFile]) -> list[int | None]:
    """Bytes of files as the first of their mirrors says which does; None where none does."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(_ask, files))


def _ask(file: RemoteFile) -> int | None:
    with http.session({}) as session:
        sizes = (http.size_at(session, address, TIMEOUT) for address in file.addresses)
        return next((size for size in sizes if size), None)  # some say 0 of what they make anew
