"""Conventions that both commands follow."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import fscdata.cli
import fsctrain.cli

APPS = {"fscdata": fscdata.cli.app, "fsctrain": fsctrain.cli.app}
COMMANDS = [
    *(("fscdata", name) for name in fscdata.cli.Commands.lazy),
    *(("fsctrain", name) for name in fsctrain.cli.Commands.lazy),
]


@pytest.mark.parametrize(("program", "command"), [("fscdata", ""), ("fsctrain", ""), *COMMANDS])
def test_h_is_help(program: str, command: str) -> None:
    words = [command] if command else []
    short, long = (CliRunner().invoke(APPS[program], [*words, o]) for o in ("-h", "--help"))
    assert (short.exit_code, long.exit_code) == (0, 0)
    assert short.output == long.output and "Usage: " in short.output


@pytest.mark.parametrize(
    ("program", "typed", "completions"),
    [
        ("fscdata", "ma", ["make-negatives"]),
        ("fscdata", "make-negatives --exec", ["--executor"]),
        ("fsctrain", "run --lora", ["--lora-rank", "--lora-alpha", "--lora-conv"]),
    ],
)
@pytest.mark.slow
def test_a_shell_completes_commands_and_options(
    program: str, typed: str, completions: list[str]
) -> None:
    line = f"{program} {typed}"
    request = {
        f"_{program.upper()}_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - 1),
    }
    code = f"import sys; sys.argv = ['{program}']; from {program}.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | request,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == completions, done.stderr
