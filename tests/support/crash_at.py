"""Run `fsctrain WORDS…`, and kill it before its Nth change to files in a folder.

python crash_at.py N FOLDER WORDS…
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.chmod"}


def crash_at(number: int, folder: str) -> None:
    """Kill this process before the change with this number, counted from 1."""
    left = number

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        writes = event == "open" and isinstance(arguments[1], str) and arguments[1][0] in "wxar"
        writes = writes and arguments[1] not in ("r", "rb")
        if (event in CHANGES or writes) and str(arguments[0]).startswith(folder):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)


if __name__ == "__main__":
    crash_at(int(sys.argv[1]), sys.argv[2])
    sys.argv = ["fsctrain", *sys.argv[3:]]
    from fsctrain.cli import main

    main()
