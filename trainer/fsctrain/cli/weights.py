"""`fsctrain merge`, `fsctrain interpolate`, `fsctrain export`: what becomes of a run's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fsctrain.cli.screen import console

Source = Annotated[
    Path, typer.Argument(metavar="RUN_OR_CHECKPOINT", help="a run's folder, or a checkpoint's")
]
Pretrained = Annotated[
    str | None,
    typer.Option(
        metavar="PATH", help="the weights before the training, where they are not where they were"
    ),
]


def merge(
    source: Source,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="the new folder [merged, beside the checkpoint]"),
    ] = None,
    pretrained: Pretrained = None,
) -> None:
    """Make a whole checkpoint of a LoRA one and its base."""
    from fsctrain.weights import merge as merge_lora  # torch takes seconds: not for --help

    weights, line = merge_lora(source, out, pretrained)
    console.print(f"checkpoint: {weights}")
    console.print(f"load it with: {line}")


def interpolate(
    source: Source,
    alpha: Annotated[
        str,
        typer.Option(
            metavar="ALPHA",
            help="share of the fine-tuned weights: 0.5, or 0.3,0.5, or start:stop:step, the stop "
            "included",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="the folder of the new ones [interpolated, beside the checkpoint]",
        ),
    ] = None,
    pretrained: Pretrained = None,
) -> None:
    """Write a checkpoint between the weights before and after the training for each alpha."""
    from fsctrain.weights import interpolate as between

    for folder in between(source, alpha, out, pretrained):
        console.print(f"checkpoint: {folder}")


def export(
    source: Source,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="the new folder")],
    push: Annotated[
        str | None,
        typer.Option(metavar="OWNER/NAME", help="upload it to this Hugging Face repository too"),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="where the repository is made, make it private")
    ] = False,
) -> None:
    """Write a folder that open_clip loads, with a model card filled from the run."""
    from fsctrain.weights import export as write

    loaded_by = write(source, out, push, private=private)
    console.print(f"load it with: open_clip.create_model({loaded_by!r})")
    console.print(f"its card wants a licence from you: {out / 'README.md'}")
