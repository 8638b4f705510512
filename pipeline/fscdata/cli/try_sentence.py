"""fscdata try."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from fscdata.base.errors import FsckitError
from fscdata.base.text import printable
from fscdata.negatives.changes import changed_words, has_colours
from fscdata.steps.generate import CaptionNegatives, negatives_of

CHUNK = 256  # lines of stdin answered together


def try_sentence(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="sentence, or - for one per line of stdin",
            metavar="SENTENCE",
            show_default="stdin, if piped",
        ),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="all, fsc-clip, or comma-separated styles: negclip, replace, "
            "shuffle-1 … shuffle-5, svlc"
        ),
    ] = "all",
    variants: Annotated[int, typer.Option(help="maximum negatives per sentence and style")] = 5,
    seed: Annotated[int, typer.Option(help="random seed")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON object per sentence")
    ] = False,
) -> None:
    """Show the negatives of a sentence."""
    if words is None and sys.stdin.isatty():
        raise typer.BadParameter("expected a sentence, or lines on stdin", param_hint="SENTENCE")
    texts = _lines() if words in (None, ["-"]) else iter([" ".join(words or [])])
    console = Console(highlight=False)
    first = True
    while chunk := list(islice(texts, CHUNK)):
        for result in negatives_of(chunk, recipe, variants, seed):
            if as_json:
                typer.echo(json.dumps(_record(result), ensure_ascii=False))
                continue
            if not first:
                typer.echo()
            first = False
            _print(result, console)


def _lines() -> Iterator[str]:
    """The lines of stdin that are not empty.

    Raises FsckitError if there are none, or one is not UTF-8.
    """
    empty = True
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            text = line.decode().strip()
        except UnicodeDecodeError:
            raise FsckitError(f"stdin: line {number} is not UTF-8; convert it") from None
        if text:
            empty = False
            yield text
    if empty:
        raise FsckitError("stdin: contains no sentence; pass one as an argument")


def _record(result: CaptionNegatives) -> dict[str, Any]:
    """The result as a JSON object, with edits as in the tables."""
    negatives = [
        vars(n) | {"edits": [edit._asdict() for edit in n.edits]} for n in result.negatives
    ]
    return {"caption": result.caption, "negatives": negatives, "without": result.without}


def _print(result: CaptionNegatives, console: Console) -> None:
    """Print the sentence, then a line per negative, and per style that has none."""
    coloured = has_colours(console)
    width = max(len(style) for style in [*result.without, *(n.style for n in result.negatives)])
    console.print(Text(printable(result.caption), style="bold"), soft_wrap=True)
    for n in result.negatives:
        how = f"{n.operator}, {n.relation}" if n.relation else n.operator
        shown = (
            changed_words(result.caption, n.text, n.edits, coloured)
            if coloured
            else Text(printable(n.text))
        )
        line = Text(f"  {n.style:{width}}  ").append_text(shown)
        console.print(line.append(f"  ({how})", style="dim"), soft_wrap=True)
    for style, reason in result.without.items():
        console.print(Text(f"  {style:{width}}  none: {reason}", style="dim"), soft_wrap=True)
