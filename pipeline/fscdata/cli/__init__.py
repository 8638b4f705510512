"""The command `fscdata`: each subcommand parses, calls one function and prints its result."""

from __future__ import annotations

from typing import Annotated, ClassVar

import typer

from fscdata import __version__
from fscdata.base.shell import LazyGroup, run_command


class Commands(LazyGroup):
    """The subcommands, in the order a user needs them."""

    lazy: ClassVar = {
        "datasets": ("fscdata.cli.download:datasets", "List the data sets that can be downloaded."),
        "download": (
            "fscdata.cli.download:download",
            "Print a data set's terms and download it.",
        ),
        "retry": (
            "fscdata.cli.download:retry",
            "Retry a URL table's temporary failures, writing new shards.",
        ),
        "pack": ("fscdata.cli.pack:pack", "Pack local images and captions into webdataset tars."),
        "make-negatives": (
            "fscdata.cli.make_negatives:make_negatives",
            "Make the samples and negatives tables of a data set.",
        ),
        "verify": ("fscdata.cli.verify:verify", "Check every table against its tar."),
        "lexicon": ("fscdata.cli.lexicon:app", "Build or check the WordNet table."),
        "inspect": ("fscdata.cli.explore:inspect", "Summarize a data set and show examples."),
        "sql": ("fscdata.cli.explore:sql", "Query a data set's tables with DuckDB."),
        "db": ("fscdata.cli.explore:db", "Write a .duckdb file with views of a data set's tables."),
    }


app = typer.Typer(
    name="fscdata",
    cls=Commands,
    help="Make hard-negative captions for images in tars, and inspect them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fscdata {__version__}")
        raise typer.Exit


@app.callback()
def fscdata(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="show the version and exit"
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command."""
    run_command(app, "fscdata")
