"""The command `fscdata`: each subcommand parses, calls one function and prints what it returns."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from fscdata import __version__
from fscdata.cli import download, explore, lexicon
from fscdata.cli.make_negatives import make_negatives
from fscdata.cli.pack import pack
from fscdata.cli.verify import verify
from fscdata.contract import FsckitError, printable

app = typer.Typer(
    name="fscdata",
    help="Images and captions in tars → hard-negative captions in Parquet → look at them.",
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
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print it")
    ] = False,
) -> None:
    pass


app.command()(download.datasets)
app.command()(download.download)
app.command()(download.retry)
app.command()(pack)
app.command()(make_negatives)
app.command()(verify)
app.add_typer(lexicon.app, name="lexicon")
app.command()(explore.inspect)
app.command()(explore.sql)
app.command()(explore.db)


def main() -> None:
    """Run the command; a user's mistake is one sentence on stderr and exit 1."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        app()
    except FsckitError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _terminated(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends the command as Ctrl-C does, its clean-ups run; 128 + the signal's number."""
    sys.exit(128 + number)


def _fail(sentence: str) -> None:
    sys.stderr.write(f"fscdata: {printable(sentence)}\n")
    sys.exit(1)
