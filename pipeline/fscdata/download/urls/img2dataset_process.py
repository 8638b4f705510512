"""img2dataset as a process of its own, in this environment or in another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fscdata.base.errors import FsckitError
from fscdata.base.paths import cannot_be
from fscdata.base.text import printable

PYTHON_VARIABLE = "FSCKIT_IMG2DATASET"  # names the Python of the environment that holds it

_CHILD = str(Path(__file__).parent / "child" / "program.py")
_POLL = 0.5  # seconds between two looks at what is done
# albumentations, which resizes, asks the network for its newest version at every import.
_ENVIRONMENT = {"NO_ALBUMENTATIONS_UPDATE": "1", "OMP_NUM_THREADS": "1"}
# Without an address Ray would join whatever cluster was last begun on this machine, or wait for it
# for ever where that one is gone; a user who wants a cluster names it in the same variable.
_DEFAULTS = {"RAY_ADDRESS": "local", "RAY_USAGE_STATS_ENABLED": "0"}


@dataclass(frozen=True)
class Img2dataset:
    """An img2dataset that was found: the Python that runs it, and what it can do."""

    python: str
    version: str
    options: tuple[str, ...]
    engines: tuple[str, ...]

    def check(self, arguments: Mapping[str, object]) -> None:
        """Raises FsckitError for an option that it does not know or an engine that it lacks.

        Without Ray its Ray distributor returns at once, with no work done and no error.
        """
        for name in arguments:
            if name not in self.options:
                raise FsckitError(
                    f"'{printable(name)}': img2dataset {self.version} has no such option; it has "
                    f"{', '.join(sorted(self.options))}"
                )
        engine = arguments.get("distributor", "multiprocessing")
        if engine not in self.engines:
            raise FsckitError(
                f"'{engine}': not an engine that img2dataset finds in {self.python}, only "
                f"{', '.join(self.engines)}; install it there or take another one"
            )


def find_img2dataset() -> Img2dataset:
    """The img2dataset of this environment, or of the Python that FSCKIT_IMG2DATASET names.

    Raises:
        FsckitError: there is none.
    """
    python = os.environ.get(PYTHON_VARIABLE) or sys.executable
    try:
        answer = subprocess.run(
            [python, _CHILD, "describe"], capture_output=True, check=True, timeout=60
        )
        found = json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        why = printable(str(error)[:200])
        raise FsckitError(
            f"{python}: cannot be asked for img2dataset ({why}); set {PYTHON_VARIABLE} to the "
            f"Python of an environment that has it"
        ) from None
    if not found:
        raise FsckitError(
            f"{python}: img2dataset is not installed there; pip install 'fsckit[download]', or set "
            f"{PYTHON_VARIABLE} to the Python of an environment that has it"
        )
    return Img2dataset(python, found["version"], tuple(found["options"]), tuple(found["engines"]))


def run(
    tool: Img2dataset, arguments: Mapping[str, Any], log: Path, poll: Callable[[], None]
) -> None:
    """Call `img2dataset.download` and wait, with `poll` called now and then.

    What it prints goes to `log`. It ends with this process, however this one ends. That it ends
    well does not mean that it did its work: the caller looks at the shards.

    Raises:
        FsckitError: it failed.
    """
    try:
        output = log.open("wb")
    except OSError as error:
        raise cannot_be("written", log, error) from None
    with (
        output,
        subprocess.Popen(
            [tool.python, _CHILD, "download"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_DEFAULTS | {"PYSPARK_PYTHON": tool.python} | os.environ | _ENVIRONMENT,
            start_new_session=True,  # a group of its own, to be ended with all its workers
            bufsize=0,
        ) as process,
    ):
        try:
            code = _wait(process, arguments, poll)
        except BaseException:
            _end(process)
            raise
        if code:
            _end(process)
            raise FsckitError(
                f"img2dataset ended with code {code} ({last_line(log)}); {log} tells more, and the "
                f"same command goes on from there"
            )


def _wait(
    process: subprocess.Popen[bytes], arguments: Mapping[str, Any], poll: Callable[[], None]
) -> int:
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it died at once, and its exit code tells
        process.stdin.write(json.dumps(arguments).encode() + b"\n")
        process.stdin.flush()
    while True:
        try:
            return process.wait(_POLL)
        except subprocess.TimeoutExpired:
            poll()


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def last_line(log: Path) -> str:
    """The last line of a log that says anything."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return printable(next((line.strip() for line in reversed(lines) if line.strip()), "silent"))[
        :200
    ]
