"""`fsctrain plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fsctrain.cli.screen import console


def plot(
    runs: Annotated[list[Path], typer.Argument(help="folders of runs, such as runs/fsc-clip")],
    out: Annotated[Path, typer.Option("--out", help="the PNG to write")] = Path("runs.png"),
) -> None:
    """Draw runs side by side: losses, preferred captions, scores, rate and speed, as a PNG."""
    from fsctrain.plot import plot_runs

    plot_runs(runs, out)
    console.print(f"{out}")
