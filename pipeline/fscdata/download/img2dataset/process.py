"""Runs img2dataset as a separate process, and checks its work."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fscdata.base.errors import FsckitError, first_line, last_line
from fscdata.base.paths import access, cannot_be
from fscdata.base.text import printable
from fscdata.download.img2dataset.shards import ENDINGS, is_complete, remove, shard_name

PYTHON_VARIABLE = "FSCKIT_IMG2DATASET"  # the Python of an environment that has img2dataset

_CHILD = str(Path(__file__).parent / "child" / "program.py")
_POLL = 0.5  # seconds between progress reports
# albumentations, which resizes, checks online for a newer version at every import.
_ENVIRONMENT = {"NO_ALBUMENTATIONS_UPDATE": "1", "OMP_NUM_THREADS": "1"}
# Without an address, Ray joins the last cluster started on this machine, or waits forever for one
# that has gone. To use a cluster, a user sets the same variable.
_DEFAULTS = {"RAY_ADDRESS": "local", "RAY_USAGE_STATS_ENABLED": "0"}


@dataclass(frozen=True)
class Img2dataset:
    """An installed img2dataset: the Python that runs it, its options and its engines."""

    python: str
    version: str
    options: tuple[str, ...]
    engines: tuple[str, ...]

    def check(self, arguments: Mapping[str, object]) -> None:
        """Raises FsckitError for an unknown option or an engine that is not installed.

        Without Ray, img2dataset's Ray distributor returns at once, with no work done and no error.
        """
        for name in arguments:
            if name not in self.options:
                raise FsckitError(
                    f"unknown option '{printable(name)}' of img2dataset {self.version}; choose "
                    f"from {', '.join(sorted(self.options))}"
                )
        engine = arguments.get("distributor", "multiprocessing")
        if engine not in self.engines:
            raise FsckitError(
                f"engine '{engine}' is not installed in {self.python}; install it there, or choose "
                f"{' or '.join(self.engines)}"
            )


def find_img2dataset() -> Img2dataset:
    """The img2dataset of this environment, or of the Python that FSCKIT_IMG2DATASET names.

    Raises:
        FsckitError: it is not installed.
    """
    python = os.environ.get(PYTHON_VARIABLE) or sys.executable
    try:
        answer = subprocess.run(
            [python, _CHILD, "describe"], capture_output=True, check=True, timeout=60
        )
        found = json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise FsckitError(
            f"{python}: cannot be run to find img2dataset ({first_line(error)}); set "
            f"{PYTHON_VARIABLE} to the Python of an environment that has it"
        ) from None
    if not found:
        raise FsckitError(
            f"{python}: img2dataset is not installed; run: pip install 'fsckit[download]', or set "
            f"{PYTHON_VARIABLE} to the Python of an environment that has it"
        )
    return Img2dataset(python, found["version"], tuple(found["options"]), tuple(found["engines"]))


@dataclass(frozen=True)
class ToolRun:
    """One img2dataset job.

    Attributes:
        table: a Parquet that `write_table` wrote.
        rows: its number of rows.
        working: the folder that img2dataset writes shards into.
        log: the file for img2dataset's output.
        arguments: for `img2dataset.download`.
        first: number of the first shard.
    """

    table: Path
    rows: int
    working: Path
    log: Path
    arguments: dict[str, Any]
    first: int = 0

    @property
    def expected(self) -> dict[str, int]:
        """The names of the shards to write, and the rows of each."""
        per_shard, width = (
            int(self.arguments[name]) for name in ("number_sample_per_shard", "oom_shard_count")
        )
        return {
            shard_name(self.first + i, width): min(per_shard, self.rows - i * per_shard)
            for i in range(math.ceil(self.rows / per_shard))
        }

    def finish(self, report: Callable[[int, int], None]) -> None:
        """Run img2dataset for the shards that are not complete yet.

        Args:
            report: called with the rows in finished shards and the total.

        Raises:
            FsckitError: img2dataset is missing, fails or omits a shard.
        """
        if set("*?[") & set(str(self.working.absolute())):
            raise FsckitError(
                f"{self.working}: img2dataset cannot work in a folder with *, ? or [ in its path; "
                f"choose another one"
            )
        tool = find_img2dataset()
        tool.check(self.arguments)
        with access(self.working, "written"):
            self.working.mkdir(parents=True, exist_ok=True)
        missing = self._unfinished()
        if missing:
            for name in missing:
                # img2dataset skips any shard with a stats file.
                remove(self.working, name)
            _run(tool, self._call(len(missing)), self.log, lambda: self._report(report))
            missing = self._unfinished()
        if missing:
            raise FsckitError(
                f"{self.working}: img2dataset left {len(missing):,} of {len(self.expected):,} "
                f"shards unfinished, starting with {missing[0]} ({_last_line(self.log)}); see "
                f"{self.log}, and rerun the command to resume"
            )
        shutil.rmtree(self.working / "_tmp", ignore_errors=True)
        report(self.rows, self.rows)

    def _unfinished(self) -> list[str]:
        return [name for name, n in self.expected.items() if not is_complete(self.working, name, n)]

    def _call(self, shards: int) -> dict[str, Any]:
        """The arguments for `img2dataset.download`."""
        arguments = self.arguments | {
            "url_list": str(self.table.absolute()),
            "output_folder": str(self.working.absolute()),
            "processes_count": min(self.arguments["processes_count"], shards),
            "incremental_mode": "incremental",
        }
        if self.first:
            # In this mode it continues numbering from the last stats file.
            name = shard_name(self.first - 1, int(self.arguments["oom_shard_count"]))
            (self.working / f"{name}_stats.json").touch()
            arguments["incremental_mode"] = "extend"
        return arguments

    def _report(self, report: Callable[[int, int], None]) -> None:
        ending = ENDINGS[1]
        done = sum(
            n for name, n in self.expected.items() if (self.working / f"{name}{ending}").exists()
        )
        report(done, self.rows)


def _run(
    tool: Img2dataset, arguments: Mapping[str, Any], log: Path, poll: Callable[[], None]
) -> None:
    """Call `img2dataset.download` and wait, calling `poll` periodically.

    The process never outlives this one. Its exit code 0 does not mean that it did its work.

    Raises FsckitError for any other exit code.
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
            start_new_session=True,  # one group, so that all its workers can be killed
            bufsize=0,
        ) as process,
    ):
        try:
            code = _wait(process, arguments, poll)
        except BaseException:
            _kill(process)
            raise
        if code:
            _kill(process)  # workers may have survived
            raise FsckitError(
                f"img2dataset exited with {code} ({_last_line(log)}); see {log}, and rerun the "
                f"command to resume"
            )


def _wait(
    process: subprocess.Popen[bytes], arguments: Mapping[str, Any], poll: Callable[[], None]
) -> int:
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it died at once; its exit code says so
        process.stdin.write(json.dumps(arguments).encode() + b"\n")
        process.stdin.flush()
    while True:
        try:
            return process.wait(_POLL)
        except subprocess.TimeoutExpired:
            poll()


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _last_line(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace")
    return last_line(text) if text.strip() else "it printed nothing"
