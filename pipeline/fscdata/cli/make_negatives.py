"""fscdata make-negatives: its options, its progress and its closing table."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fscdata.base.errors import FsckitError
from fscdata.base.paths import data_path
from fscdata.base.shell import resumable
from fscdata.base.text import printable
from fscdata.cli.options import Data
from fscdata.contract import CaptionSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from fscdata.steps.estimate import Estimate
    from fscdata.steps.negatives import Progress, Report

_LINE_EVERY = 10.0  # seconds, where there is no terminal for a bar


class ExecutorName(StrEnum):
    LOCAL = "local"
    RAY = "ray"
    SPARK = "spark"


def make_negatives(
    data: Data,
    recipe: Annotated[
        str,
        typer.Option(
            help="fsc-clip, or styles by comma: negclip, replace, shuffle-1 … shuffle-5, svlc, "
            "imported"
        ),
    ],
    variants: Annotated[int, typer.Option(help="different negatives a caption and style")] = 1,
    seed: Annotated[int, typer.Option(help="of the draws")] = 0,
    tokenizer: Annotated[
        str, typer.Option(help="the open_clip model whose token ids to store, or none")
    ] = "ViT-B-32",
    caption_key: Annotated[
        str | None,
        typer.Option(help="json field of the captions; default: captions, caption, else the .txt"),
    ] = None,
    captions_dir: Annotated[
        Path | None, typer.Option(help="folder of <key>.txt files, a caption a line")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="make tables again that were made otherwise")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="make this many shards at most; the same again goes on"),
    ] = None,
    executor: Annotated[
        ExecutorName, typer.Option(help="where the shards are made")
    ] = ExecutorName.LOCAL,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="shards at work at once; default: one a core. 0: in this process (local)",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="of a cluster that runs: HOST:PORT of Ray's head, spark://HOST:PORT"),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="say what would be made (tars judged by their size) and how long it would take",
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="print nothing but errors, and what --json asks for")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON object instead of the table")
    ] = False,
) -> None:
    """Make the samples and negatives tables of a data set."""
    from fscdata.executors import create_executor, usable_cpus
    from fscdata.steps.estimate import estimate
    from fscdata.steps.negatives import make_negatives as make
    from fscdata.steps.plan import Settings

    if caption_key and captions_dir:
        raise FsckitError("--caption-key and --captions-dir exclude one another; give one")
    place = data_path(data)
    source = CaptionSource(caption_key, captions_dir)
    settings = Settings(recipe, variants, seed, tokenizer, source)
    engine = create_executor(executor.value, workers, address)
    if dry_run:
        with _reading(quiet or as_json) as show:
            found = estimate(place, settings, overwrite, limit, show)
        if as_json or not quiet:
            _print_estimate(found, usable_cpus() if workers is None else workers, as_json)
        _exit_if_failed(found.failed)
        return
    with resumable("make what is missing"), _display(quiet or as_json) as show:
        report = make(place, settings, overwrite, limit, engine, show)
    if as_json:
        typer.echo(json.dumps(report.record()))
    elif not quiet:
        _print_report(report)
    _exit_if_failed(report.failed)


@contextmanager
def _display(silent: bool) -> Iterator[Callable[[Progress], None]]:
    """Shows progress: a bar in a terminal, a line now and then elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    stderr = Console(stderr=True)
    if silent:
        yield lambda progress: None
    elif not stderr.is_terminal:
        yield _Lines()
    else:
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("shards, {task.description}"))
        with Bar(*columns, console=stderr, transient=True) as bar:
            task = bar.add_task("starting", total=None)
            yield lambda progress: bar.update(
                task,
                total=progress.shards,
                completed=progress.ended,
                description=_describe(progress),
            )


@contextmanager
def _reading(silent: bool) -> Iterator[Callable[[int, int], None]]:
    """Shows how many of the tars have been read."""
    from rich.progress import Progress as Bar

    stderr = Console(stderr=True)
    with Bar(console=stderr, disable=silent or not stderr.is_terminal, transient=True) as bar:
        task = bar.add_task("reading tars", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _Lines:
    """Prints how far a run is, once in a while."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _LINE_EVERY

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_EVERY
            sys.stderr.write(
                f"{progress.ended:,} of {progress.shards:,} shards, {_describe(progress)}\n"
            )


def _describe(progress: Progress) -> str:
    report = progress.report
    left = progress.seconds_left
    parts = [
        f"{progress.captions:,} captions",
        f"{progress.per_second:,.0f}/s",
        f"{report.without.total():,} without a negative",
        f"{report.left_out.total():,} left out",
    ]
    if report.failed:
        parts.append(f"{len(report.failed):,} shards failed")
    if left is not None:
        parts.append(f"{timedelta(seconds=round(left))} left")
    return ", ".join(parts)


def _exit_if_failed(failed: dict[str, str]) -> None:
    """Name the shards that failed."""
    for tar, reason in ((printable(key), printable(value)) for key, value in failed.items()):
        sys.stderr.write(f"fscdata: {reason if tar in reason else f'{tar}: {reason}'}\n")
    if failed:
        raise typer.Exit(1)


def _print_estimate(estimate: Estimate, workers: int, as_json: bool) -> None:
    """What --dry-run found."""
    rate, captions = estimate.per_second, estimate.captions
    if as_json:
        record = asdict(estimate) | {"workers": workers}
        typer.echo(json.dumps(record))
        return
    typer.echo(
        f"{estimate.shards:,} shards to make, {estimate.skipped:,} there; of each: "
        f"{', '.join(estimate.tables)}"
    )
    if rate is None:
        typer.echo("no captions")
        return
    core = timedelta(seconds=round(captions / rate))
    line = f"{captions:,} captions at {rate:,.0f} a second and core: {core}"
    processes = min(workers, estimate.shards)
    if processes > 1:
        line += f", or {timedelta(seconds=round(captions / rate / processes))} with {processes}"
    typer.echo(line)


def _print_report(report: Report) -> None:
    """What was made: a row a style, then one line."""
    from rich.filesize import decimal
    from rich.table import Table

    if report.negatives or report.without:
        table = Table("style", "negatives", "captions without, by reason")
        styles = dict.fromkeys([*report.negatives, *(style for style, _ in report.without)])
        for style in styles:
            reasons = [f"{r}: {n:,}" for (s, r), n in report.without.most_common() if s == style]
            table.add_row(style, f"{report.negatives[style]:,}", "; ".join(reasons))
        Console().print(table)
    left_out = "; ".join(f"{r}: {n:,}" for r, n in report.left_out.most_common())
    typer.echo(
        f"{report.captions:,} captions of {report.shards:,} shards in {report.seconds:.1f} s "
        f"({report.per_second:,.0f} captions/s), {decimal(report.written)} written, "
        f"{report.skipped:,} shards were there, {report.retried:,} tried twice, "
        f"{len(report.failed):,} failed; left out: {left_out or 'nothing'}"
    )
