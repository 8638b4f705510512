"""fscdata pack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from fscdata.base.display import display
from fscdata.base.errors import FsckitError
from fscdata.base.text import join_counts, printable
from fscdata.captions import Columns
from fscdata.steps import pack as step


def pack(
    dest: Annotated[Path, typer.Argument(help="the data set's folder, created if missing")],
    images: Annotated[Path, typer.Option(help="folder of images")],
    captions: Annotated[
        Path | None,
        typer.Option(
            help="table of images and captions (TSV, CSV, JSON lines, Parquet), or the JSON of "
            "COCO or SugarCrepe",
            show_default="metadata.csv, metadata.jsonl or a .txt per image, in the image folder",
        ),
    ] = None,
    samples_per_shard: Annotated[int, typer.Option(min=1, help="images per tar")] = step.PER_SHARD,
    image_column: Annotated[
        str | None,
        typer.Option(help="the table's column of file names", show_default="image, file_name, …"),
    ] = None,
    caption_column: Annotated[
        str | None,
        typer.Option(help="the table's column of captions", show_default="caption, text, …"),
    ] = None,
    sep: Annotated[
        str | None,
        typer.Option(help="the table's separator", show_default="found in its first line"),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(
            help="also pack a share of the images into DEST-NAME, such as val=0.05; repeatable",
            metavar="NAME=SHARE",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="random seed of the split")] = 0,
) -> None:
    """Pack local images and captions into webdataset tars.

    Only image headers are decoded; training skips images that are damaged after the header.
    """
    columns = Columns(image_column, caption_column, sep and sep.replace("\\t", "\t"))
    shares = dict(map(_share, split or []))
    with display() as reporter:
        report = step.pack(
            dest,
            images,
            captions,
            samples_per_shard,
            reporter,
            columns=columns,
            split=shares,
            seed=seed,
        )
    for name, part in report.splits.items():
        typer.echo(printable(f"{dest}-{name}: {_sizes(part)}"))
    line = (
        f"{dest}: {_sizes(report)}; images without a row in the caption file: "
        f"{report.unnamed_images:,}; skipped: "
    )
    typer.echo(printable(line + (join_counts(report.skipped) or "nothing")))


def _sizes(report: step.PackReport) -> str:
    return (
        f"{report.samples:,} samples, {report.captions:,} captions, "
        f"{report.published_negatives:,} published negatives, {report.shards:,} shards, "
        f"{decimal(report.bytes)}"
    )


def _share(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    try:
        return name, float(share)
    except ValueError:
        raise FsckitError(f"--split {text}: expected NAME=SHARE, such as val=0.05") from None
