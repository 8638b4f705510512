"""How large files are that nobody publishes a size of: their servers are asked."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event

from fscdata.base.parallel import run_concurrently
from fscdata.download import http
from fscdata.manifest import RemoteFile

AT_ONCE = 8  # servers asked
TIMEOUT = 5.0  # seconds that one has for its answer
IN_ALL = 15.0  # seconds


def ask_sizes(files: Sequence[RemoteFile]) -> dict[str, int]:
    """Bytes of files by name, as the first of their mirrors says that does; those without an answer
    in good time are left out."""
    stopped = Event()

    def ask(file: RemoteFile) -> tuple[str, int | None]:
        with http.session({}) as session:
            for address in file.addresses:
                # Of what is made when it is asked for, some say 0.
                if not stopped.is_set() and (size := http.size_at(session, address, TIMEOUT)):
                    return file.name, size
        return file.name, None

    answers = run_concurrently(ask, files, AT_ONCE, stopped, IN_ALL)
    return {name: size for name, size in answers if size is not None}
