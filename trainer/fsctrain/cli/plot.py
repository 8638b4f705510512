"""`fsctrain plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fsctrain.cli.screen import console


def plot(
    runs: Annotated[list[Path], typer.Argument(help="run folders, such as runs/fsc-clip")],
    out: Annotated[Path, typer.Option("--out", help="PNG file to write")] = Path("runs.png"),
) -> None:
    """Plot the metrics of one or more runs as a PNG.

    The panels show losses, caption preference, scores, learning rate and speed.
    """
    # Matplotlib takes half a second to import, and `fsctrain plot --help` does not need it.
    from fsctrain.plot import plot_runs

    plot_runs(runs, out)
    console.print(f"{out}")
