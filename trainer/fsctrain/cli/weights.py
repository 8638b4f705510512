"""`fsctrain merge`, `interpolate` and `export`: commands for a run's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fsctrain.cli.screen import console

Source = Annotated[
    Path,
    typer.Argument(
        metavar="RUN_OR_CHECKPOINT",
        help="run or checkpoint folder, local-dir:FOLDER or hf-hub:OWNER/NAME",
    ),
]
Pretrained = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="pretrained weights",
        show_default="recorded by the run",
    ),
]


def merge(
    source: Source,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="new folder", show_default="merged, beside the checkpoint"
        ),
    ] = None,
    pretrained: Pretrained = None,
) -> None:
    """Merge a LoRA checkpoint into its base weights."""
    from fsctrain import weights  # imports torch, which takes seconds: not for --help

    path, loading_line = weights.merge(source, out, pretrained)
    console.print(f"checkpoint: {path}")
    console.print(f"load it with: {loading_line}")


def interpolate(
    source: Source,
    alphas: Annotated[
        str,
        typer.Option(
            "--alpha",
            metavar="ALPHA",
            help="weight of the fine-tuned model: 0.5, a list 0.3,0.5, or an inclusive range "
            "start:stop:step",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="folder for new checkpoints",
            show_default="interpolated, beside the checkpoint",
        ),
    ] = None,
    pretrained: Pretrained = None,
) -> None:
    """Interpolate between pretrained and fine-tuned weights (WiSE-FT).

    Writes one checkpoint for each alpha.
    """
    from fsctrain import weights  # imports torch, which takes seconds: not for --help

    for folder in weights.interpolate(source, alphas, out, pretrained):
        console.print(f"checkpoint: {folder}")


def export(
    source: Source,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="new folder")],
    push: Annotated[
        str | None,
        typer.Option(
            metavar="OWNER/NAME", help="also upload the folder to this Hugging Face repository"
        ),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="make a newly created repository private")
    ] = False,
) -> None:
    """Export a run's model for open_clip, with a model card."""
    from fsctrain import weights  # imports torch, which takes seconds: not for --help

    loaded_by = weights.export(source, out, push, private=private)
    console.print(f"load it with: open_clip.create_model({loaded_by!r})")
    console.print(f"fill in the licence in its model card: {out / 'README.md'}")
