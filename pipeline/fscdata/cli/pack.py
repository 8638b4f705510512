"""fscdata pack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fscdata.base.text import printable


def pack(
    dest: Annotated[Path, typer.Argument(help="the data set's folder, to be made")],
    images: Annotated[Path, typer.Option(help="the folder of images")],
    captions: Annotated[
        Path,
        typer.Option(
            help="TSV, CSV, JSON lines or Parquet with the columns image (or filename, file_name, "
            "filepath, file) and caption (or captions, title, text, sentence, raw); COCO's json; "
            "NegCLIP's TSV"
        ),
    ],
    samples_per_shard: Annotated[int, typer.Option(min=1, help="images a tar")] = 10_000,
) -> None:
    """Pack local images and captions into webdataset tars.

    Of an image the header alone is read; a picture damaged further on is left out in training.
    """
    from rich.filesize import decimal
    from rich.progress import Progress

    from fscdata.steps import pack as step

    stderr = Console(stderr=True)
    with Progress(console=stderr, disable=not stderr.is_terminal, transient=True) as bar:
        task = bar.add_task("packing", total=None)
        report = step.pack(
            dest,
            images,
            captions,
            samples_per_shard,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    line = (
        f"{dest}: {report.samples:,} samples, {report.captions:,} captions, "
        f"{report.published_negatives:,} published negatives, {report.shards:,} shards, "
        f"{decimal(report.bytes)}; images that no caption names: {report.unnamed_images:,}; "
        f"skipped: "
    )
    reasons = [f"{reason}: {count:,}" for reason, count in report.skipped.most_common()]
    typer.echo(printable(line + (", ".join(reasons) or "nothing")))
