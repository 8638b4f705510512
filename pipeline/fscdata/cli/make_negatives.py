"""fscdata make-negatives."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from fscdata.base.display import display
from fscdata.base.errors import FsckitError
from fscdata.base.paths import data_path
from fscdata.base.shell import resumable, show_options
from fscdata.base.text import join_counts, printable
from fscdata.cli.options import Data
from fscdata.contract import CaptionSource
from fscdata.executors import create_executor, usable_cpus
from fscdata.steps import negatives
from fscdata.steps.estimate import Estimate, estimate
from fscdata.steps.expected import Settings


class ExecutorName(StrEnum):
    LOCAL = "local"
    RAY = "ray"
    SPARK = "spark"


def make_negatives(
    data: Data,
    recipe: Annotated[
        str,
        typer.Option(
            help="fsc-clip, or comma-separated styles: negclip, replace, shuffle-1 … shuffle-5, "
            "svlc, imported"
        ),
    ],
    variants: Annotated[int, typer.Option(help="maximum negatives per caption and style")] = 5,
    seed: Annotated[int, typer.Option(help="random seed")] = 0,
    tokenizer: Annotated[
        str, typer.Option(help="open_clip model to store token ids for, or none")
    ] = "ViT-B-32",
    caption_key: Annotated[
        str | None,
        typer.Option(
            help="json field with the captions",
            show_default="captions, else caption, else the .txt",
        ),
    ] = None,
    captions_dir: Annotated[
        Path | None, typer.Option(help="folder of <key>.txt files with one caption per line")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="remake tables that were made with other settings")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="maximum shards to make; rerun the command for more"),
    ] = None,
    executor: Annotated[ExecutorName, typer.Option(help="where to run")] = ExecutorName.LOCAL,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="shards at a time; 0 runs in this process (local only)",
            show_default="one per core",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="running cluster: HOST:PORT of Ray's head, or spark://HOST:PORT"),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="print what would be made and how long it would take",
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="print only errors and the output of --json")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON object instead of the table")
    ] = False,
) -> None:
    """Make the samples and negatives tables of a data set."""
    if caption_key and captions_dir:
        raise FsckitError("--caption-key and --captions-dir are mutually exclusive; use one")
    place = data_path(data)
    settings = Settings(recipe, variants, seed, tokenizer, CaptionSource(caption_key, captions_dir))
    engine = create_executor(executor.value, workers, address)
    if dry_run:
        with display(quiet or as_json) as reporter:
            found = estimate(place, settings, overwrite, limit, reporter)
        if as_json or not quiet:
            _print_estimate(found, usable_cpus() if workers is None else workers, as_json)
        _exit_if_failed(found.failed)
        return
    with resumable("fscdata", "make the rest"), display(quiet or as_json) as reporter:
        report = negatives.make_negatives(place, settings, overwrite, limit, engine, reporter)
    if as_json:
        typer.echo(json.dumps(report.record()))
    elif not quiet:
        _print_report(report)
    _exit_if_failed(report.failed)
    if report.empty:
        raise FsckitError(
            f"{data}: no caption has a negative of {' or '.join(report.empty)}; find the reasons "
            f"with 'fscdata inspect {data}', and leave the style out of --recipe"
        )


def _exit_if_failed(failed: dict[str, str]) -> None:
    """Print why each shard failed, and exit with 1 if any did."""
    for tar, reason in failed.items():
        sentence = reason if tar in reason else f"{tar}: {reason}"
        sys.stderr.write(f"fscdata: {printable(show_options(sentence))}\n")
    if failed:
        raise typer.Exit(1)


def _print_estimate(estimate: Estimate, workers: int, as_json: bool) -> None:
    rate, captions = estimate.per_second, estimate.captions
    if as_json:
        record = asdict(estimate) | {"workers": workers}
        typer.echo(json.dumps(record))
        return
    typer.echo(
        f"{estimate.shards:,} shards to make, {estimate.skipped:,} complete; tables per shard: "
        f"{', '.join(estimate.tables)}"
    )
    if rate is None:
        typer.echo("no captions")
        return
    core = timedelta(seconds=round(captions / rate))
    line = f"{captions:,} captions at {rate:,.0f}/s per core: {core}"
    processes = min(workers, estimate.shards)
    if processes > 1:
        line += f", or {timedelta(seconds=round(captions / rate / processes))} on {processes} cores"
    typer.echo(line)


def _print_report(report: negatives.NegativesReport) -> None:
    """Print a row per style, then one line with the totals."""
    if report.negatives or report.without:
        table = Table("style", "negatives", "captions without a negative, by reason")
        styles = dict.fromkeys([*report.negatives, *(style for style, _ in report.without)])
        for style in styles:
            reasons = {r: n for (s, r), n in report.without.items() if s == style}
            table.add_row(style, f"{report.negatives[style]:,}", join_counts(reasons, "; "))
        Console().print(table)
    left_out = join_counts(report.left_out, "; ")
    typer.echo(
        f"{report.captions:,} captions in {report.shards:,} shards in {report.seconds:.1f} s "
        f"({report.per_second:,.0f} captions/s), {decimal(report.written)} written, "
        f"{report.skipped:,} shards skipped, {report.retried:,} retried, "
        f"{len(report.failed):,} failed; left out: {left_out or 'nothing'}"
    )
