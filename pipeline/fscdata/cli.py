"""The command `fscdata`: each subcommand parses, calls one function and prints what it returns."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fscdata import __version__
from fscdata.contract import FsckitError, printable

if TYPE_CHECKING:
    from fscdata.steps.negatives import Report

app = typer.Typer(
    name="fscdata",
    help="Images and captions in tars → hard-negative captions in Parquet → look at them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Data = Annotated[Path, typer.Argument(help="the data set's folder", metavar="DATA")]


class Output(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"


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


@app.command()
def pack(
    dest: Annotated[Path, typer.Argument(help="the data set's folder, to be made")],
    images: Annotated[Path, typer.Option(help="the folder of images")],
    captions: Annotated[
        Path,
        typer.Option(
            help="TSV, CSV, JSON lines or Parquet with the columns image (or filename, file_name, "
            "filepath, file) and caption (or captions, title, text, sentence, raw); COCO's json; "
            "NegCLIP's TSV"
        ),
    ],
    samples_per_shard: Annotated[int, typer.Option(min=1, help="images a tar")] = 10_000,
) -> None:
    """Local images and captions → webdataset shards.

    Of an image the header alone is read; a picture damaged further on is left out in training.
    """
    from rich.filesize import decimal
    from rich.progress import Progress

    from fscdata.steps import pack as step

    stderr = Console(stderr=True)
    with Progress(console=stderr, disable=not stderr.is_terminal, transient=True) as bar:
        task = bar.add_task("packing", total=None)
        report = step.pack(
            dest,
            images,
            captions,
            samples_per_shard,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    line = (
        f"{dest}: {report.samples:,} samples, {report.captions:,} captions, "
        f"{report.published_negatives:,} published negatives, {report.shards:,} shards, "
        f"{decimal(report.bytes)}; images that no caption names: {report.unnamed_images:,}; "
        f"skipped: "
    )
    reasons = [f"{reason}: {count:,}" for reason, count in report.skipped.most_common()]
    typer.echo(printable(line + (", ".join(reasons) or "nothing")))


@app.command("make-negatives")
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
) -> None:
    """Tars → the samples and negatives tables."""
    from rich.progress import Progress

    from fscdata.contract import CaptionSource
    from fscdata.steps import negatives as step

    if caption_key and captions_dir:
        raise FsckitError("--caption-key and --captions-dir exclude one another; give one")
    source = CaptionSource(caption_key, captions_dir)
    settings = step.Settings(recipe, variants, seed, tokenizer, source)
    stderr = Console(stderr=True)
    with Progress(console=stderr, disable=not stderr.is_terminal, transient=True) as bar:
        task = bar.add_task("shards", total=None)
        try:
            report = step.make_negatives(
                data,
                settings,
                overwrite,
                lambda done, total, captions: bar.update(
                    task, completed=done, total=total, description=f"{captions:,} captions, shards"
                ),
            )
        except KeyboardInterrupt:
            stderr.print("fscdata: stopped; the same command again makes what is missing")
            raise
    _print_report(report)
    for reason in report.failed.values():
        sys.stderr.write(f"fscdata: {printable(reason)}\n")
    if report.failed:
        raise typer.Exit(1)


def _print_report(report: Report) -> None:
    """What make-negatives did: a table of the styles, then one line."""
    from rich.filesize import decimal
    from rich.table import Table

    if report.negatives or report.without:
        table = Table("style", "negatives", "captions without, by reason")
        styles = dict.fromkeys([*report.negatives, *(style for style, _ in report.without)])
        for style in styles:
            reasons = [f"{r}: {n:,}" for (s, r), n in report.without.most_common() if s == style]
            table.add_row(style, f"{report.negatives[style]:,}", "; ".join(reasons))
        Console().print(table)
    rate = report.captions / report.seconds if report.seconds else 0
    left_out = "; ".join(f"{r}: {n:,}" for r, n in report.left_out.most_common())
    typer.echo(
        f"{report.captions:,} captions of {report.shards:,} shards in {report.seconds:.1f} s "
        f"({rate:,.0f} captions/s), {decimal(report.written)} written, {report.skipped:,} shards "
        f"were there, {len(report.failed):,} failed; left out: {left_out or 'nothing'}"
    )


lexicon = typer.Typer(help="The WordNet table that ships with the package.", no_args_is_help=True)
app.add_typer(lexicon, name="lexicon")
WordNet = Annotated[
    Path, typer.Option(help="WordNet's dict folder: nltk's corpora/wordnet, or /usr/share/wordnet")
]


@lexicon.command("build")
def build(
    wordnet: WordNet,
    out: Annotated[Path | None, typer.Option(help="default: the package's own file")] = None,
) -> None:
    """Compile WordNet to one Arrow file."""
    from rich.filesize import decimal

    from fscdata.lexicon import PACKAGED, build_lexicon

    path = build_lexicon(wordnet, out or PACKAGED)
    typer.echo(f"{path}: {decimal(path.stat().st_size)}")


@lexicon.command("check")
def check(
    wordnet: WordNet,
    words: Annotated[int, typer.Option(min=1, help="words of each part of speech")] = 1000,
    seed: Annotated[int, typer.Option(help="of the choice of words")] = 0,
) -> None:
    """Compare the packaged table with nltk, word by word."""
    from fscdata.lexicon import check_lexicon

    report = check_lexicon(wordnet, words, seed)
    for line in report.differences:
        typer.echo(printable(line))
    counts = ", ".join(f"{pos}: {count:,}" for pos, count in report.compared.items())
    typer.echo(f"compared {counts}; different: {len(report.differences):,}")
    if report.differences:
        raise typer.Exit(1)


@app.command()
def inspect(
    data: Data,
    style: Annotated[str | None, typer.Option(help="this style alone")] = None,
    examples: Annotated[int, typer.Option(min=0, help="captions to show")] = 5,
) -> None:
    """Coverage by style and operator, why captions got none, sizes, examples."""
    from fscdata import explore

    explore.inspect(data, Console(), style, examples)


@app.command()
def sql(
    data: Data,
    query: Annotated[str, typer.Argument(help="over the views samples, negatives, coverage")],
    output: Annotated[Output, typer.Option("--format")] = Output.TABLE,
) -> None:
    """Ask DuckDB."""
    from fscdata import explore

    explore.print_query(data, query, output.value, Console())


@app.command()
def db(
    data: Data,
    out: Annotated[Path | None, typer.Option(help="default: DATA/<name>.duckdb")] = None,
) -> None:
    """Write a .duckdb file with the views samples, negatives and coverage."""
    from fscdata import explore

    path = explore.write_database(data, out)
    typer.echo(printable(f"{path}: views of the tables that are there now; write it again later"))


def main() -> None:
    """Run the command; a user's mistake is one sentence on stderr and exit 1."""
    try:
        app()
    except FsckitError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _fail(sentence: str) -> None:
    sys.stderr.write(f"fscdata: {printable(sentence)}\n")
    sys.exit(1)
