"""Negatives that came with the data, such as NegCLIP's published ones."""

from __future__ import annotations

from fscdata.negatives.draw import Draw
from fscdata.negatives.style import Caption, Negative, Style, no_argument
from fscdata.negatives.styles.shuffle import changed_part


class Imported(Style):
    """The sample's `published_negatives`, which `fscdata pack` stores in the tar."""

    name = "imported"
    version = 2
    uses_parse = False
    returns_all = True  # they cost nothing to make, and a later epoch can use each

    def negatives(self, caption: Caption, draw: Draw, variants: int) -> list[Negative] | str:
        """See `Style.negatives`."""
        texts = list(dict.fromkeys(t for t in caption.published if t.strip() and t != caption.text))
        if not texts:
            return "none published"
        draw.shuffle(texts)
        return [
            Negative(text, "imported", [changed_part(caption.text, text)])
            for text in texts[:variants]
        ]


def create(argument: str | None) -> Style:
    """The style; it takes no argument."""
    no_argument(Imported.name, argument)
    return Imported()
