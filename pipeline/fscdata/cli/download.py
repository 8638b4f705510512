"""fscdata download, datasets and retry: their options, progress and closing tables."""

from __future__ import annotations

import json
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from fscdata.cli.download_progress import display
from fscdata.contract import FsckitError, data_path, printable

if TYPE_CHECKING:
    from fscdata.manifest import Manifest
    from fscdata.steps.download import DownloadReport, PlannedFile

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
        float,
        typer.Option(min=0, max=1, help="of a URL table: share of the probed rows that must come"),
    ] = 0.5,
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
    """A data set's manifest → the data set, its terms shown first."""
    from fscdata.manifest import UrlsManifest, load_manifest
    from fscdata.steps.download import Options, is_there, plan
    from fscdata.steps.download import download as step

    manifest = load_manifest(name)
    place = data_path(folder) if folder else data_root / Path(name).stem
    if not isinstance(place, Path):
        raise FsckitError(f"{folder}: downloads need a local folder; copy it there afterwards")
    given = _img2dataset_options(option or [], engine, workers)
    if given and not isinstance(manifest, UrlsManifest):
        raise FsckitError(
            f"{name}: is fetched without img2dataset; leave --engine, --workers and -o out"
        )
    if dry_run:
        _print_plan(manifest, plan(manifest), place, as_json)
        return
    options = Options(min_success, retries, keep_archives, given)
    if not is_there(manifest, place):
        typer.echo(_terms(manifest), err=True)
    try:
        with display(quiet or as_json) as show:
            report = step(manifest, place, options, show)
    except (KeyboardInterrupt, SystemExit):
        sys.stderr.write("fscdata: stopped; the same command again goes on from here\n")
        raise
    if as_json:
        typer.echo(json.dumps({**report.record(), "licence": manifest.licence.model_dump()}))
    elif not quiet:
        _print_report(manifest, report)


def datasets(data_root: DataRoot = Path("data"), as_json: AsJson = False) -> None:
    """The data sets that have a manifest here."""
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
    table = Table("name", "kind", "size", "licence", "on disk")
    table.columns[0].no_wrap = True
    for row in rows:
        size = "?" if row["bytes"] is None else f"about {_decimal(row['bytes'])}"
        table.add_row(row["name"], row["kind"], size, row["licence"], row["folder"] or "no")
    Console().print(table)


def retry(
    folder: Annotated[Path, typer.Argument(help="a data set of a URL table", metavar="DATA")],
    times: Annotated[int, typer.Option(min=1, help="rounds at most")] = 1,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Download again the rows whose error can pass, into new shards."""
    from fscdata.steps.download import retry as step

    with display(quiet or as_json) as show:
        samples, failures = step(folder, times, show)
    if as_json:
        typer.echo(json.dumps({"samples": samples, "failures": failures}))
    elif not quiet:
        reasons = ", ".join(f"{reason}: {n:,}" for reason, n in failures.items())
        typer.echo(printable(f"{folder}: {samples:,} samples more; failed: {reasons or 'nothing'}"))


def _img2dataset_options(words: list[str], engine: Engine, workers: int | None) -> dict[str, Any]:
    """img2dataset's options of the command line; values are read as YAML reads them."""
    from fscdata.yaml_lines import read_value

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


def _terms(manifest: Manifest) -> str:
    licence = manifest.licence
    return printable(f"{manifest.title}; licence: {licence.name} ({licence.link}). {licence.terms}")


def _print_plan(manifest: Manifest, files: list[PlannedFile], folder: Path, as_json: bool) -> None:
    """What --dry-run found."""
    from rich.table import Table

    from fscdata.manifest import LocalManifest

    if as_json:
        record = {
            "folder": str(folder),
            "files": [vars(file) for file in files],
            "licence": manifest.licence.model_dump(),
        }
        typer.echo(json.dumps(record))
        return
    typer.echo(_terms(manifest))
    table = Table("file", "size")
    table.add_column("from", overflow="fold")
    for file in files:
        size = "?" if file.size is None else ("" if file.exact else "about ") + _decimal(file.size)
        table.add_row(printable(file.name), size, printable(file.address))
    if files:
        Console().print(table)
    known = sum(file.size or 0 for file in files)
    unknown = sum(file.size is None for file in files)
    sizes = [_decimal(known)] if known or not unknown else []
    sizes += [f"{unknown:,} of unknown size"] if unknown else []
    line = f"{_number(len(files), 'file')}, {' and '.join(sizes)}, to {folder}"
    typer.echo(printable(f"{line}; afterwards: {manifest.on_disk}"))
    if isinstance(manifest, LocalManifest) and not (folder / manifest.pictures).is_dir():
        typer.echo(printable(f"{folder / manifest.pictures}: {manifest.instructions}"))
    if manifest.note:
        typer.echo(printable(manifest.note))


def _print_report(manifest: Manifest, report: DownloadReport) -> None:
    """The closing table, and what to do next."""
    from rich.table import Table

    source = report.source
    if report.already:
        typer.echo(printable(f"{report.folder}: is there already, {_counts(report)}"))
    else:
        table = Table("files", "bytes", "shards", "samples", "captions", "seconds")
        table.add_row(
            f"{len(source.files):,}",
            _decimal(report.bytes),
            *(f"{n:,}" for n in (report.shards, source.samples, source.captions)),
            f"{report.seconds:.1f}",
        )
        Console().print(table)
        reasons = sorted(source.left_out.items(), key=lambda item: -item[1])
        left_out = ", ".join(f"{reason}: {n:,}" for reason, n in reasons) or "nothing"
        typer.echo(printable(f"{report.folder}: {manifest.on_disk}; left out: {left_out}"))
    if manifest.command:
        place = shlex.quote(str(report.folder))
        typer.echo(printable(f"next: {manifest.command.replace('{folder}', place)}"))


def _counts(report: DownloadReport) -> str:
    source = report.source
    if not report.shards:
        return _number(len(source.files), "file")
    counts = {"shard": report.shards, "sample": source.samples, "caption": source.captions}
    return ", ".join(_number(count, what) for what, count in counts.items())


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _decimal(size: int) -> str:
    from rich.filesize import decimal

    return decimal(size)
