"""fscdata download, datasets and retry: their options and what they print."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from fscdata.base.display import display
from fscdata.base.errors import FsckitError
from fscdata.base.paths import data_path
from fscdata.base.shell import resumable
from fscdata.base.text import printable
from fscdata.cli.download_report import describe_left_out, print_plan, print_report, terms
from fscdata.download import run
from fscdata.download.kind import Options
from fscdata.download.manifest import load_manifest, read_manifest, shipped_manifests
from fscdata.download.yaml_lines import read_value

RERUN = "resume the download"
DataRoot = Annotated[
    Path, typer.Option(help="folder for all data sets", envvar="FSCKIT_DATA", file_okay=False)
]
Quiet = Annotated[bool, typer.Option("--quiet", help="print only errors")]
TermsOnly = Annotated[bool, typer.Option("--quiet", help="print only the terms and errors")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON object instead of tables")]


class Engine(StrEnum):
    MULTIPROCESSING = "multiprocessing"
    RAY = "ray"
    PYSPARK = "pyspark"


def download(
    name: Annotated[
        str,
        typer.Argument(
            help="data set listed by 'fscdata datasets', or path to a manifest", metavar="NAME"
        ),
    ],
    folder: Annotated[
        str | None, typer.Argument(help="destination", show_default="NAME in --data-root")
    ] = None,
    data_root: DataRoot = Path("data"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show the terms and what would be fetched")
    ] = False,
    keep_archives: Annotated[
        bool, typer.Option("--keep-archives", help="keep archives after packing their images")
    ] = False,
    min_success: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="URL tables: share of probed rows that must succeed",
            show_default="0.5",
        ),
    ] = None,
    retries: Annotated[
        int, typer.Option(min=0, help="URL tables: retry rounds for temporary failures")
    ] = 0,
    engine: Annotated[
        Engine | None,
        typer.Option(help="URL tables: where img2dataset runs", show_default="multiprocessing"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="URL tables: processes", show_default="one per core")
    ] = None,
    img2dataset: Annotated[
        list[str] | None,
        typer.Option("-o", "--option", help="URL tables: an img2dataset option, as NAME=VALUE"),
    ] = None,
    quiet: TermsOnly = False,
    as_json: AsJson = False,
) -> None:
    """Print a data set's terms and download it."""
    manifest = load_manifest(name)
    dest = data_path(folder) if folder else data_root / Path(name).stem
    if not isinstance(dest, Path):
        raise FsckitError(f"{folder}: expected a local folder; upload the data set afterwards")
    options = Options(
        keep_archives,
        min_success,
        retries,
        None if engine in (None, Engine.MULTIPROCESSING) else engine.value,
        workers,
        parse_values(img2dataset or []),
    )
    manifest.check_options(options)  # a mistake is reported before the terms
    if dry_run:
        if not as_json:
            typer.echo(terms(manifest))  # first: planning may fail without a network
        with resumable("fscdata", RERUN), display(quiet or as_json) as reporter:
            files = run.plan(manifest, options, reporter)
        print_plan(manifest, files, dest, as_json)
        return
    if not run.is_complete(manifest, dest):
        typer.echo(terms(manifest), err=True)
    with resumable("fscdata", RERUN), display(quiet or as_json) as reporter:
        report = run.download(manifest, dest, options, reporter)
    if as_json:
        typer.echo(json.dumps({**report.as_json(), "licence": manifest.licence.model_dump()}))
    elif not quiet:
        print_report(manifest, report)


def datasets(data_root: DataRoot = Path("data"), as_json: AsJson = False) -> None:
    """List the data sets that can be downloaded."""
    rows: list[dict[str, Any]] = []
    for name, path in shipped_manifests().items():
        manifest = read_manifest(path)
        folder = data_root / name
        rows.append(
            {
                "name": name,
                "kind": manifest.kind,
                "title": manifest.title,
                "bytes": manifest.expected_bytes,
                "licence": manifest.licence.name,
                "folder": str(folder) if run.is_complete(manifest, folder) else None,
            }
        )
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table("name", "kind", "size", "licence")
    table.columns[0].no_wrap = True
    table.add_column("on disk", overflow="fold")
    for row in rows:
        expected = "?" if row["bytes"] is None else f"about {decimal(row['bytes'])}"
        table.add_row(row["name"], row["kind"], expected, row["licence"], row["folder"] or "no")
    Console().print(table)


def retry(
    folder: Annotated[Path, typer.Argument(help="data set made from a URL table", metavar="DATA")],
    times: Annotated[int, typer.Option(min=1, help="maximum retry rounds")] = 1,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Retry a URL table's temporary failures, writing new shards."""
    with resumable("fscdata", RERUN), display(quiet or as_json) as reporter:
        samples, left_out = run.retry(folder, times, reporter)
    if as_json:
        typer.echo(json.dumps({"samples": samples, "left_out": left_out}))
    elif not quiet:
        line = f"{folder}: {samples:,} new samples; {describe_left_out(left_out)}"
        typer.echo(printable(line))


def parse_values(words: list[str]) -> dict[str, Any]:
    """`NAME=VALUE` words as a dictionary; values are read as YAML.

    Raises:
        FsckitError: a word does not have that form.
    """
    values: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise FsckitError(f"-o {word}: expected NAME=VALUE, for example image_size=384")
        values[name] = read_value(value)
    return values
