"""Behaviour shared by both commands."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
import typer

from fscdata.base.errors import FsckitError
from fscdata.base.shell import LazyGroup, resumable, run_command


def _tool(batch_size: int = 1, mistake: str = "") -> None:
    """Do one thing."""
    if mistake == "os":
        raise FileNotFoundError(2, "No such file or directory", "x.tar")
    if mistake == "defect":
        raise ZeroDivisionError("ours")
    if mistake:
        raise FsckitError(mistake)
    typer.echo(f"batch of {batch_size}")


class _Commands(LazyGroup):
    lazy = {"tool": (f"{__name__}:_tool", "Do one thing.")}  # noqa: RUF012


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    app = typer.Typer(cls=_Commands, pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    monkeypatch.setitem(sys.modules, __name__, sys.modules[_tool.__module__])

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["kit", *arguments])
        before = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as caught:
                run_command(app, "kit")
        finally:
            signal.signal(signal.SIGTERM, before)
        return int(caught.value.code or 0)

    return run


def test_runs_a_subcommand(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tool", "--batch-size", "3") == 0
    assert capsys.readouterr().out == "batch of 3\n"
    assert run("--help") == 0
    assert "Do one thing." in capsys.readouterr().out
    assert run("unknown") == 2
    assert "No such command" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        ("`batch_size` 3: too large", "--batch-size 3: too large"),
        ("`x` is a file, `batch_size` is not", "`x` is a file, --batch-size is not"),
        ("red\x1b[31m", "red\\x1b[31m"),
        ("os", "x.tar: No such file or directory"),
    ],
)
def test_a_mistake_is_one_sentence(
    mistake: str, sentence: str, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("tool", "--mistake", mistake) == 1
    assert capsys.readouterr().err == f"kit: {sentence}\n"


def test_a_bug_is_raised(run: Callable[..., int]) -> None:
    with pytest.raises(ZeroDivisionError):
        run("tool", "--mistake", "defect")


def test_a_signal_says_how_to_resume() -> None:
    code = (
        "import os, signal, typer\n"
        "from fscdata.base.shell import resumable, run_command\n"
        "app = typer.Typer()\n"
        "@app.command()\n"
        "def wait():\n"
        "    with resumable('kit', 'resume the work'):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "run_command(app, 'kit')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 143
    assert done.stderr == "kit: stopped; rerun the same command to resume the work\n"


def test_resumable_is_silent_when_nothing_stops_it(capsys: pytest.CaptureFixture[str]) -> None:
    with resumable("kit", "resume"):
        pass
    assert capsys.readouterr().err == ""
