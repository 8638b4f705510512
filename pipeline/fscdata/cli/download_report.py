"""What fscdata download says: the terms, what it would fetch, what it fetched."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from fscdata.base.text import printable

if TYPE_CHECKING:
    from fscdata.manifest import Manifest
    from fscdata.steps.download import DownloadReport
    from fscdata.steps.download_plan import PlannedFile


def terms(manifest: Manifest) -> str:
    """The data set and its licence, in a sentence or two."""
    licence = manifest.licence
    return printable(f"{manifest.title}; licence: {licence.name} ({licence.link}). {licence.terms}")


def print_plan(manifest: Manifest, files: list[PlannedFile], folder: Path, as_json: bool) -> None:
    """What --dry-run found."""
    from rich.table import Table

    from fscdata.manifest import LocalManifest, UrlsManifest

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
        size = (
            "?"
            if file.size is None
            else ("" if file.exact else "about ") + size_in_words(file.size)
        )
        table.add_row(printable(file.name), size, printable(file.address))
    if files:
        Console().print(table)
    known = sum(file.size or 0 for file in files)
    unknown = sum(file.size is None for file in files)
    sizes = [size_in_words(known)] if known or not unknown else []
    sizes += [f"{unknown:,} of unknown size"] if unknown else []
    line = f"{_number(len(files), 'file')}, {' and '.join(sizes)}, to {folder}"
    typer.echo(printable(f"{line}; afterwards: {manifest.on_disk}"))
    if isinstance(manifest, LocalManifest) and not (folder / manifest.pictures).is_dir():
        typer.echo(printable(f"{folder / manifest.pictures}: {manifest.instructions}"))
    if isinstance(manifest, UrlsManifest) and manifest.table:
        there = "" if (folder / manifest.table).exists() else ", which is not there yet"
        typer.echo(printable(f"the table is {folder / manifest.table}{there}"))
    if manifest.note:
        typer.echo(printable(manifest.note))


def print_report(manifest: Manifest, report: DownloadReport) -> None:
    """The closing table, and what to do next."""
    from rich.table import Table

    source = report.source
    if report.already:
        typer.echo(printable(f"{report.folder}: is there already, {_counts(report)}"))
    else:
        table = Table("files", "bytes", "shards", "samples", "captions", "seconds")
        table.add_row(
            f"{len(source.files):,}",
            size_in_words(report.bytes),
            *(f"{n:,}" for n in (report.shards, source.samples, source.captions)),
            f"{report.seconds:.1f}",
        )
        Console().print(table)
        left_out = left_out_in_words(source.left_out)
        typer.echo(printable(f"{report.folder}: {manifest.on_disk}; {left_out}"))
    if manifest.kind == "urls":
        _name_what_may_come(report)
    if manifest.command:
        place = shlex.quote(str(report.folder))
        typer.echo(printable(f"next: {manifest.command.replace('{folder}', place)}"))


def left_out_in_words(left_out: Mapping[str, int]) -> str:
    """By reason, the most frequent first."""
    reasons = sorted(left_out.items(), key=lambda item: -item[1])
    return "left out: " + (", ".join(f"{reason}: {n:,}" for reason, n in reasons) or "nothing")


def _name_what_may_come(report: DownloadReport) -> None:
    """Rows that failed and may not fail another time, and the command that tries."""
    from fscdata.download.urls.failures import can_pass

    rows = sum(n for reason, n in report.source.left_out.items() if can_pass(reason))
    if rows:
        again = f"fscdata retry {shlex.quote(str(report.folder))}"
        typer.echo(printable(f"{_number(rows, 'row')} may come another time: {again}"))


def _counts(report: DownloadReport) -> str:
    source = report.source
    if not report.shards:
        return _number(len(source.files), "file")
    counts = {"shard": report.shards, "sample": source.samples, "caption": source.captions}
    return ", ".join(_number(count, what) for what, count in counts.items())


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def size_in_words(size: int) -> str:
    """Bytes as `13.5 GB`."""
    from rich.filesize import decimal

    return decimal(size)
