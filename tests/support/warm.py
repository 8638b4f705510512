"""Commands in processes that fork from an interpreter that has already imported torch and spaCy.

Importing torch and open_clip takes five seconds, most of the time of a test with a tiny run. These
are still real processes, with their own pid, process group, signals and exit code. Tests of
torchrun itself, and of start-up, start the command from scratch.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["fsctrain.cli", "fsctrain.train", "fscdata.negatives.parsing"])


class WarmProcess:
    """`python -m MODULE ARGUMENTS` or `python SCRIPT.py ARGUMENTS`, with Popen's interface."""

    def __init__(self, command: list[str], env: Mapping[str, str] | None = None) -> None:
        self._files = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115  (kept open)
        paths = [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in self._files]
        environment = dict(os.environ if env is None else env)
        self._process = _CONTEXT.Process(
            target=_run, args=(command, environment, str(Path.cwd()), *paths)
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the process to end; returns its stdout and stderr."""
        self.wait(timeout)
        for file in self._files:
            file.seek(0)
        out, err = (file.read().decode() for file in self._files)
        return out, err

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class WarmRanks:
    """Several ranks of one command on this machine; stdout is the first rank's."""

    def __init__(self, size: int, command: list[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        common = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        self.ranks = [
            WarmProcess(command, os.environ | common | {"RANK": str(n), "LOCAL_RANK": str(n)})
            for n in range(size)
        ]

    @property
    def returncode(self) -> int | None:
        """The first nonzero code, or None while a rank is running."""
        codes = [rank.returncode for rank in self.ranks]
        return None if None in codes else next(filter(None, codes), 0)

    def poll(self) -> int | None:
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        outputs = [rank.communicate(timeout) for rank in self.ranks]
        return outputs[0][0], "".join(err for _, err in outputs)

    def terminate(self) -> None:
        """Send SIGTERM to all ranks, as torchrun does."""
        for rank in self.ranks:
            rank.terminate()


def run_warm(*words: object) -> subprocess.CompletedProcess[str]:
    """Run `python -m WORDS` to its end."""
    process = WarmProcess(["-m", *map(str, words)])
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(words, process.wait(), out, err)


def _run(command: list[str], environment: dict[str, str], folder: str, out: str, err: str) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for path, descriptor in ((out, 1), (err, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = command
        runpy.run_path(command[0], run_name="__main__")
