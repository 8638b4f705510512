"""The command `fscdata`: each subcommand parses, calls one function and prints its result."""

from __future__ import annotations

from typing import ClassVar

from fscdata import __version__
from fscdata.base.shell import LazyGroup, create_app, run_command


class Commands(LazyGroup):
    """The subcommands, in the order a user needs them."""

    lazy: ClassVar = {
        "try": ("fscdata.cli.try_sentence:try_sentence", "Show the negatives of a sentence."),
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


app = create_app(
    Commands,
    "fscdata",
    __version__,
    "Make hard-negative captions for images in tars, and inspect them.",
)


def main() -> None:
    """Run the command."""
    run_command(app, "fscdata")
