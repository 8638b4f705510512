"""The output of fscdata download: the terms, the plan, the result."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from fscdata.base.text import join_counts, plural, printable
from fscdata.download.kind import Manifest, PlannedFile
from fscdata.download.run import DownloadReport


def terms(manifest: Manifest) -> str:
    """The data set and its licence, in a sentence or two."""
    licence = manifest.licence
    return printable(f"{manifest.title}; licence: {licence.name} ({licence.link}). {licence.terms}")


def print_plan(manifest: Manifest, files: list[PlannedFile], folder: Path, as_json: bool) -> None:
    """Print what --dry-run found."""
    if as_json:
        record = {
            "folder": str(folder),
            "files": [vars(file) for file in files],
            "licence": manifest.licence.model_dump(),
        }
        typer.echo(json.dumps(record))
        return
    table = Table("file", "size")
    table.add_column("from", overflow="fold")
    for file in files:
        table.add_row(printable(file.name), _planned_size(file), printable(file.address))
    if files:
        Console().print(table)
    known = sum(file.size or 0 for file in files)
    unknown = sum(file.size is None for file in files)
    about = "" if all(file.listed for file in files) else "about "
    sizes = [f"{about}{decimal(known)}"] if known or not unknown else []
    sizes += [f"{unknown:,} of unknown size"] if unknown else []
    count = plural(len(files), "file")
    if about:
        count = "files not listed"
        sizes = sizes if known else ["of unknown size"]
    line = f"{count}, {' and '.join(sizes)}, to {folder}"
    typer.echo(printable(f"{line}; result: {manifest.on_disk}"))
    for note in manifest.planning_notes(folder):
        typer.echo(printable(note))
    if manifest.note:
        typer.echo(printable(manifest.note))


def print_report(manifest: Manifest, report: DownloadReport) -> None:
    """Print the closing table and the next step."""
    source = report.source
    if report.already:
        typer.echo(printable(f"{report.folder}: already complete, {_counts(report)}"))
    else:
        table = Table("files", "bytes", "shards", "samples", "captions", "seconds")
        table.add_row(
            f"{len(source.files):,}",
            decimal(report.bytes),
            *(f"{n:,}" for n in (report.shards, source.samples, source.captions)),
            f"{report.seconds:.1f}",
        )
        Console().print(table)
        left_out = describe_left_out(source.left_out)
        typer.echo(printable(f"{report.folder}: {manifest.on_disk}; {left_out}"))
    for note in manifest.closing_notes(report.folder, source.left_out):
        typer.echo(printable(note))
    if manifest.command:
        folder = shlex.quote(str(report.folder))
        typer.echo(printable(f"next: {manifest.command.replace('{folder}', folder)}"))


def describe_left_out(left_out: Mapping[str, int]) -> str:
    """Counts by reason, the largest first."""
    return f"left out: {join_counts(left_out) or 'nothing'}"


def _planned_size(file: PlannedFile) -> str:
    if file.size is None:
        return "?"
    return decimal(file.size) if file.exact else f"about {decimal(file.size)}"


def _counts(report: DownloadReport) -> str:
    source = report.source
    if not report.shards:
        return plural(len(source.files), "file")
    counts = {"shard": report.shards, "sample": source.samples, "caption": source.captions}
    return ", ".join(plural(count, what) for what, count in counts.items())
