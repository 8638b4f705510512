"""Shows a negative with its changes to the caption marked."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from fscdata.base.text import printable
from fscdata.negatives.style import Edit


def has_colours(console: Console) -> bool:
    """Whether the console is a terminal that shows colours."""
    return console.is_terminal and not console.no_color and console.color_system is not None


def changed_words(caption: str, negative: str, edits: Sequence[Edit], coloured: bool) -> Text:
    """The negative, with its changes to the caption marked.

    Old words are red and struck out, new ones green; without colours they are [old→new]. If the
    edits do not yield the negative, nothing is marked.
    """
    text = Text()
    rebuilt, at = "", 0
    for edit in edits:
        kept = caption[at : edit.start]
        rebuilt += kept + edit.new
        at = edit.end
        text.append(printable(kept))
        if coloured:
            text.append(printable(edit.old), style="red strike")
            text.append("→" if edit.old and edit.new else "", style="dim")
            text.append(printable(edit.new), style="green")
        else:
            text.append(f"[{printable(edit.old)}→{printable(edit.new)}]")
    text.append(printable(caption[at:]))
    return text if rebuilt + caption[at:] == negative else Text(printable(negative))
