"""fscdata pack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from fscdata.base.display import display
from fscdata.base.text import join_counts, printable
from fscdata.steps import pack as step


def pack(
    dest: Annotated[Path, typer.Argument(help="the data set's folder, created if missing")],
    images: Annotated[Path, typer.Option(help="folder of images")],
    captions: Annotated[
        Path,
        typer.Option(
            help="TSV, CSV, JSON lines or Parquet with the columns image (or filename, file_name, "
            "filepath, file) and caption (or captions, title, text, sentence, raw); COCO JSON; "
            "NegCLIP TSV"
        ),
    ],
    samples_per_shard: Annotated[int, typer.Option(min=1, help="images per tar")] = step.PER_SHARD,
) -> None:
    """Pack local images and captions into webdataset tars.

    Only image headers are decoded; training skips images that are damaged after the header.
    """
    with display() as reporter:
        report = step.pack(dest, images, captions, samples_per_shard, reporter)
    line = (
        f"{dest}: {report.samples:,} samples, {report.captions:,} captions, "
        f"{report.published_negatives:,} published negatives, {report.shards:,} shards, "
        f"{decimal(report.bytes)}; images without a row in the caption file: "
        f"{report.unnamed_images:,}; skipped: "
    )
    typer.echo(printable(line + (join_counts(report.skipped) or "nothing")))
