"""Code shared by the `fscdata` and `fsctrain` commands: lazy subcommands, exit codes, signals.

Exit codes: 0 success, 1 user error or bad data, 2 invalid option, 128 + N signal N, of which 141
(SIGPIPE) says that the reader of the output has gone.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, ClassVar

import typer
import typer.core
import typer.main

from fscdata.base.errors import FsckitError, file_error
from fscdata.base.text import printable

_HELP = {"help_option_names": ["-h", "--help"]}
_Click = Any  # click's classes come with typer, under a different name in some versions


class LazyGroup(typer.core.TyperGroup):
    """Subcommands that are imported only when they run, so that `--help` and errors are instant.

    A subclass lists them in `lazy`: name → ("module:function", summary). The summary is the
    first line of the function's docstring (a test compares them).
    """

    lazy: ClassVar[dict[str, tuple[str, str]]] = {}
    # The running subcommand's options by parameter name. A process runs only one command.
    options: ClassVar[dict[str, str]] = {}

    def list_commands(self, ctx: _Click) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: _Click, cmd_name: str) -> _Click:
        if cmd_name not in self.lazy:
            return None
        return typer.core.TyperCommand(cmd_name, help=self.lazy[cmd_name][1])

    def resolve_command(self, ctx: _Click, args: list[str]) -> tuple[_Click, _Click, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if name:
            command = self.load(name)
            LazyGroup.options = {p.name: p.opts[0] for p in command.params}
        return name, command, rest

    def load(self, name: str) -> _Click:
        """Import a subcommand."""
        module, _, attribute = self.lazy[name][0].partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if isinstance(found, typer.Typer):
            return typer.main.get_command(found)
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(name, context_settings=_HELP)(found)
        return typer.main.get_command(app)


def create_app(group: type[LazyGroup], name: str, version: str, summary: str) -> typer.Typer:
    """A command with lazy subcommands and `--version`.

    Args:
        group: its subcommands.
        name: of the command.
        version: of its package.
        summary: first line of its `--help`.
    """
    app = typer.Typer(
        name=name,
        cls=group,
        help=summary,
        no_args_is_help=True,
        context_settings=_HELP,
        pretty_exceptions_enable=False,
    )

    def show_version(wanted: bool) -> None:
        if wanted:
            typer.echo(f"{name} {version}")
            raise typer.Exit

    def options(
        version: bool = typer.Option(
            False,
            "--version",
            callback=show_version,
            is_eager=True,
            help="show the version and exit",
        ),
    ) -> None:
        pass

    app.callback()(options)
    return app


def run_command(
    app: typer.Typer,
    program: str,
    explain: Callable[[Exception], str | None] = lambda error: None,
) -> None:
    """Run a command; a user's mistake prints one sentence on stderr and exits with 1.

    Args:
        app: the command.
        program: its name, which starts the sentence.
        explain: returns a sentence for another library's exception that the user can fix; None
            for a bug, which is raised.
    """
    _open_closed_streams()
    signal.signal(signal.SIGTERM, _exit_on_signal)
    try:
        code = _run(app, program, explain)
        # Here, because Python would print a traceback if it failed to flush at its end.
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        code = 128 + signal.SIGPIPE
    sys.exit(code)


def _run(
    app: typer.Typer, program: str, explain: Callable[[Exception], str | None]
) -> int | str | None:
    """Run a command; returns its exit code. Raises BrokenPipeError if its reader has gone."""
    try:
        app()
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer and rich exit with 1
            raise end.__context__ from None
        return end.code
    except Exception as error:
        sentence = _sentence(error) or explain(error)
        if sentence is None:
            raise
        sys.stderr.write(f"{program}: {printable(sentence)}\n")
        return 1
    return 0


def _open_closed_streams() -> None:
    """Replace stdin, stdout and stderr by /dev/null if they are closed (`>&-`).

    The next file to be opened would otherwise get the number of the closed stream, and a child
    process or a C library could write its messages into that file.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode))


def _discard_output() -> None:
    """Send what is left in the buffers of stdout and stderr to /dev/null."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(null, stream.fileno())


def _sentence(error: Exception) -> str | None:
    if isinstance(error, FsckitError):
        return show_options(str(error))
    if isinstance(error, OSError):
        return file_error(error)
    return None


def show_options(sentence: str) -> str:
    """Replace setting names with the command's options: `batch_size` becomes --batch-size."""
    return re.sub(r"`(\w+)`", lambda m: LazyGroup.options.get(m[1], m[0]), sentence)


def _exit_on_signal(number: int, frame: FrameType | None) -> None:
    """Exit on SIGTERM as on Ctrl-C: context managers clean up first."""
    sys.exit(128 + number)


@contextmanager
def resumable(program: str, rerun: str) -> Iterator[None]:
    """When a signal ends the block, say what rerunning the command does."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        sys.stderr.write(f"{program}: stopped; rerun the same command to {rerun}\n")
        raise
