"""fscdata lexicon: build, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from fscdata.base.text import printable
from fscdata.lexicon import PACKAGED, build_lexicon, check_lexicon

app = typer.Typer(
    help="Build or check the WordNet table.", no_args_is_help=True, add_completion=False
)
WordNet = Annotated[
    Path, typer.Option(help="WordNet's dict folder: nltk's corpora/wordnet, or /usr/share/wordnet")
]


@app.command("build")
def build(
    wordnet: WordNet,
    out: Annotated[
        Path | None,
        typer.Option(help="file to write", show_default="the package's own"),
    ] = None,
) -> None:
    """Compile WordNet into one Arrow file."""
    path = build_lexicon(wordnet, out or PACKAGED)
    typer.echo(f"{path}: {decimal(path.stat().st_size)}")


@app.command("check")
def check(
    wordnet: WordNet,
    words: Annotated[int, typer.Option(min=1, help="words per part of speech")] = 1000,
    seed: Annotated[int, typer.Option(help="random seed for choosing the words")] = 0,
) -> None:
    """Compare the packaged table with nltk, word by word."""
    report = check_lexicon(wordnet, words, seed)
    for line in report.differences:
        typer.echo(printable(line))
    counts = ", ".join(f"{pos}: {count:,}" for pos, count in report.compared.items())
    typer.echo(f"compared {counts}; different: {len(report.differences):,}")
    if report.differences:
        raise typer.Exit(1)
