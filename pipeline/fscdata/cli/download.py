"""fscdata download, datasets and retry: their options, progress and closing tables."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from fscdata.base.errors import FsckitError
from fscdata.base.paths import data_path
from fscdata.base.shell import resumable
from fscdata.base.text import printable
from fscdata.cli.download_progress import display
from fscdata.cli.download_report import (
    left_out_in_words,
    print_plan,
    print_report,
    size_in_words,
    terms,
)

if TYPE_CHECKING:
    from fscdata.manifest import Manifest

RESUME = "resume the download"
DataRoot = Annotated[
    Path, typer.Option(help="the folder of all data sets", envvar="FSCKIT_DATA", file_okay=False)
]
Quiet = Annotated[bool, typer.Option("--quiet", help="print nothing but errors")]
TermsAlone = Annotated[bool, typer.Option("--quiet", help="print nothing but the terms and errors")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON object instead of the tables")]


class Engine(StrEnum):
    MULTIPROCESSING = "multiprocessing"
    RAY = "ray"
    PYSPARK = "pyspark"


def download(
    name: Annotated[
        str,
        typer.Argument(
            help="a data set of 'fscdata datasets', or a manifest's path", metavar="NAME"
        ),
    ],
    folder: Annotated[
        str | None, typer.Argument(help="default: a folder of that name in --data-root")
    ] = None,
    data_root: DataRoot = Path("data"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would be fetched, and under which terms")
    ] = False,
    keep_archives: Annotated[
        bool, typer.Option("--keep-archives", help="keep zips whose pictures are packed")
    ] = False,
    min_success: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="of a URL table: share of the probed rows that must come; default 0.5",
        ),
    ] = None,
    retries: Annotated[
        int, typer.Option(min=0, help="of a URL table: rounds for rows whose error can pass")
    ] = 0,
    engine: Annotated[
        Engine, typer.Option(help="of a URL table: where img2dataset works")
    ] = Engine.MULTIPROCESSING,
    workers: Annotated[
        int | None, typer.Option(min=1, help="of a URL table: processes; default: one a core")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("-o", "--option", help="of a URL table: img2dataset's NAME=VALUE"),
    ] = None,
    quiet: TermsAlone = False,
    as_json: AsJson = False,
) -> None:
    """Print a data set's terms and download it."""
    from fscdata.manifest import load_manifest
    from fscdata.steps.download import Options, is_there
    from fscdata.steps.download import download as step
    from fscdata.steps.download_plan import plan

    manifest = load_manifest(name)
    place = data_path(folder) if folder else data_root / Path(name).stem
    if not isinstance(place, Path):
        raise FsckitError(f"{folder}: downloads need a local folder; copy it there afterwards")
    given = _img2dataset_options(option or [], engine, workers)
    of_a_table = bool(given) or min_success is not None or retries > 0
    _refuse_idle_options(name, manifest, of_a_table, keep_archives)
    options = Options(
        Options.min_success if min_success is None else min_success, retries, keep_archives, given
    )
    if dry_run:
        if not as_json:
            typer.echo(terms(manifest))
        with resumable(RESUME), display(quiet or as_json) as show:
            files = plan(manifest, options, show)
        print_plan(manifest, files, place, as_json)
        return
    if not is_there(manifest, place):
        typer.echo(terms(manifest), err=True)
    with resumable(RESUME), display(quiet or as_json) as show:
        report = step(manifest, place, options, show)
    if as_json:
        typer.echo(json.dumps({**report.record(), "licence": manifest.licence.model_dump()}))
    elif not quiet:
        print_report(manifest, report)


def datasets(data_root: DataRoot = Path("data"), as_json: AsJson = False) -> None:
    """List the data sets that can be downloaded."""
    from rich.table import Table

    from fscdata.manifest import read_manifest, shipped_manifests
    from fscdata.steps.download import is_there

    rows: list[dict[str, Any]] = []
    for name, path in shipped_manifests().items():
        manifest = read_manifest(path)
        rows.append(
            {
                "name": name,
                "kind": manifest.kind,
                "title": manifest.title,
                "bytes": manifest.expected_bytes,
                "licence": manifest.licence.name,
                "folder": str(data_root / name) if is_there(manifest, data_root / name) else None,
            }
        )
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table("name", "kind", "size", "licence")
    table.columns[0].no_wrap = True
    table.add_column("on disk", overflow="fold")
    for row in rows:
        size = "?" if row["bytes"] is None else f"about {size_in_words(row['bytes'])}"
        table.add_row(row["name"], row["kind"], size, row["licence"], row["folder"] or "no")
    Console().print(table)


def retry(
    folder: Annotated[Path, typer.Argument(help="a data set of a URL table", metavar="DATA")],
    times: Annotated[int, typer.Option(min=1, help="rounds at most")] = 1,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Retry rows of a URL table that failed temporarily, into new shards."""
    from fscdata.steps.download import retry as step

    with resumable(RESUME), display(quiet or as_json) as show:
        samples, left_out = step(folder, times, show)
    if as_json:
        typer.echo(json.dumps({"samples": samples, "left_out": left_out}))
    elif not quiet:
        typer.echo(printable(f"{folder}: {samples:,} samples more; {left_out_in_words(left_out)}"))


def _refuse_idle_options(
    name: str, manifest: Manifest, of_a_table: bool, keep_archives: bool
) -> None:
    """Raises FsckitError where options are given that do nothing for this kind of data set."""
    if of_a_table and manifest.kind != "urls":
        raise FsckitError(
            f"{name}: is no table of URLs; leave --engine, --workers, --min-success, --retries and "
            f"-o out"
        )
    if keep_archives and manifest.kind != "archive":
        raise FsckitError(f"{name}: has no archives that are packed; leave --keep-archives out")


def _img2dataset_options(words: list[str], engine: Engine, workers: int | None) -> dict[str, Any]:
    """img2dataset's options of the command line; values are read as YAML reads them."""
    from fscdata.manifest import read_value

    given: dict[str, Any] = {}
    if engine != Engine.MULTIPROCESSING:
        given["distributor"] = engine.value
    if workers is not None:
        given["processes_count"] = workers
    for word in words:
        name, there, value = word.partition("=")
        if not there or not name:
            raise FsckitError(f"-o {word}: write it as NAME=VALUE, for example image_size=384")
        given[name] = read_value(value)
    return given
