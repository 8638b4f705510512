"""Both commands with a reader that has gone, and with closed streams, as a shell gives them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = ["fscdata datasets", "fsctrain recipes"]
BROKEN = 141


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `fscdata` and `fsctrain` are the commands under test."""
    names = "".join(
        f"{name}() {{ '{sys.executable}' -m {name} \"$@\"; }}; " for name in ("fscdata", "fsctrain")
    )
    return subprocess.run(
        ["bash", "-c", names + line], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_takes_one_line_ends_the_command_quietly(command: str) -> None:
    done = shell(f"{command} | head -1; exit ${{PIPESTATUS[0]}}")
    assert done.returncode in (0, BROKEN)  # 0 if all lines fit into the pipe before head ends
    assert done.stderr == "" and done.stdout.count("\n") == 1


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("words", ["datasets", "datasets nope"])
@pytest.mark.slow
def test_a_reader_that_has_gone_gives_141(stream: str, words: str) -> None:
    """In a command that prints, and in one that fails."""
    prints_to = "stderr" if "nope" in words else "stdout"
    reader, writer = os.pipe()
    os.close(reader)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writer}
    done = subprocess.run(
        [sys.executable, "-m", "fscdata", *words.split()], check=False, timeout=60, **pipes
    )
    os.close(writer)
    expected = {"stdout": 0, "stderr": 2}[prints_to]
    assert done.returncode == (BROKEN if stream == prints_to else expected)
    assert not done.stderr if prints_to == "stdout" else not done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_closed_streams_change_nothing_else(command: str) -> None:
    closed_out = shell(f"{command} >&-")
    assert (closed_out.returncode, closed_out.stdout, closed_out.stderr) == (0, "", "")
    closed_err = shell(f"{command} 2>&-")
    assert closed_err.returncode == 0 and closed_err.stdout == shell(command).stdout
    failed = shell(f"{command.split(maxsplit=1)[0]} nope >&- 2>&- <&-")
    assert (failed.returncode, failed.stdout, failed.stderr) == (2, "", "")


def test_a_file_never_takes_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    """What a child prints would otherwise end up in the next file that is opened."""
    code = (
        "import subprocess, typer\n"
        "from fscdata.base.shell import run_command\n"
        "app = typer.Typer()\n"
        "@app.command()\n"
        "def write(path: str):\n"
        "    with open(path, 'w') as file:\n"
        "        subprocess.run(['echo', 'stray'])\n"
        "        print('stray')\n"
        "        file.write('kept')\n"
        "run_command(app, 'kit')"
    )
    path = tmp_path / "file"
    line = f"exec '{sys.executable}' -c \"$CODE\" {path} >&- 2>&- <&-"
    done = subprocess.run(["bash", "-c", line], env=os.environ | {"CODE": code}, check=False)
    assert done.returncode == 0 and path.read_text() == "kept"
