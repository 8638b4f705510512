"""The command `fsctrain`: it parses, calls and prints. A file a command or a family of them."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from fscdata.base.shell import run_command
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
    """Run the command."""
    rank = os.environ.get("RANK", "0")
    run_command(app, "fsctrain" if rank == "0" else f"fsctrain (rank {rank})", _explain)


def _explain(error: Exception) -> str | None:
    """What to do about an error of torch, known by the name of its type: no torch is imported."""
    kind = type(error).__name__
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed; run: pip install 'fsckit[train]'"
    if not isinstance(error, RuntimeError):
        return None
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
