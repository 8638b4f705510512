"""The command `fsctrain`: each subcommand parses, calls one function and prints what it returns."""

from __future__ import annotations

import os
from typing import ClassVar

from fscdata.base.shell import LazyGroup, create_app, run_command
from fsctrain import __version__


class Commands(LazyGroup):
    """The subcommands, in the order of use."""

    lazy: ClassVar = {
        "recipes": ("fsctrain.cli.recipes:recipes", "List the recipes, or show one."),
        "run": ("fsctrain.cli.run:run", "Fine-tune CLIP with a recipe's settings."),
        "plot": ("fsctrain.cli.plot:plot", "Plot the metrics of one or more runs as a PNG."),
        "merge": (
            "fsctrain.cli.weights:merge",
            "Merge a LoRA checkpoint into its base weights.",
        ),
        "interpolate": (
            "fsctrain.cli.weights:interpolate",
            "Interpolate between pretrained and fine-tuned weights (WiSE-FT).",
        ),
        "export": (
            "fsctrain.cli.weights:export",
            "Export a run's model for open_clip, with a model card.",
        ),
    }


app = create_app(
    Commands,
    "fsctrain",
    __version__,
    "Fine-tune CLIP on images in tars and the hard-negative captions made by fscdata.",
)


def main() -> None:
    """Run the command."""
    rank = os.environ.get("RANK", "0")  # set by torchrun
    run_command(app, "fsctrain" if rank == "0" else f"fsctrain (rank {rank})", _explain)


def _explain(error: Exception) -> str | None:
    """How to fix an error raised by torch.

    Errors are recognized by type name, because importing torch to compare types takes seconds.
    """
    kind = type(error).__name__
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed; run: pip install 'fsckit[train]'"
    if not isinstance(error, RuntimeError):
        return None
    if kind == "OutOfMemoryError":
        return (
            "out of GPU memory; set a smaller --micro-batch-size, or turn on --grad-checkpointing"
        )
    if kind.startswith("Dist") or "/gloo/" in str(error):
        return (
            "another rank failed or is unreachable; with --resume and torchrun's --max-restarts "
            "the run restarts from its last saved state"
        )
    return None
