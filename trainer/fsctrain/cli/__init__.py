"""The command `fsctrain`: it parses, calls and prints. A file a command or a family of them."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from fscdata.contract import FsckitError, printable
from fsctrain import __version__
from fsctrain.cli.plot import plot
from fsctrain.cli.recipes import recipes
from fsctrain.cli.run import run
from fsctrain.cli.screen import console
from fsctrain.cli.weights import export, interpolate, merge

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Fine-tune a CLIP on tars and the hard negatives that fscdata made for them.",
)
for command in (run, recipes, plot, merge, interpolate, export):
    app.command()(command)


def main() -> None:
    """The console script: a user's mistake is one sentence and exit status 1."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        app()
    except FsckitError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        _fail(f"{error.name} is not installed; run pip install 'fsckit[train]'")
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except RuntimeError as error:
        sentence = _of_torch(error)
        if sentence is None:
            raise
        _fail(sentence)


def _of_torch(error: RuntimeError) -> str | None:
    """What to do about an error of torch, which is known by name: --help imports no torch."""
    kind = type(error).__name__
    if kind == "OutOfMemoryError":
        return (
            "the GPU's memory is not enough; give a smaller --micro-batch-size, or "
            "--grad-checkpointing"
        )
    if kind.startswith("Dist") or "/gloo/" in str(error):
        return (
            "another rank was lost or cannot be reached; with --resume and torchrun's "
            "--max-restarts the run goes on from its last state"
        )
    return None


def _terminated(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends the command as Ctrl-C does, its clean-ups run; 128 + the signal's number."""
    sys.exit(128 + number)


def _fail(sentence: str) -> None:
    rank = os.environ.get("RANK", "0")
    speaker = "fsctrain" if rank == "0" else f"fsctrain (rank {rank})"
    sys.stderr.write(f"{speaker}: {printable(sentence)}\n")
    sys.exit(1)


def _version(asked: bool) -> None:
    if asked:
        console.print(f"fsctrain {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    pass
