"""A recipe is an ordered list of styles."""

from __future__ import annotations

from fscdata.base.errors import FsckitError
from fscdata.negatives.style import Style, create_style, style_names

RECIPES = {
    "fsc-clip": ["negclip", "replace", "shuffle-2"],
}


def parse_recipe(text: str) -> list[Style]:
    """Parse a comma-separated list of recipes and styles into styles, in order.

    Raises:
        FsckitError: a name is unknown; the message lists the known ones.
    """
    names: list[str] = []
    for part in (p.strip() for p in text.split(",")):
        if not part:
            continue
        if part not in RECIPES and part.partition("-")[0] not in style_names():
            raise FsckitError(
                f"unknown recipe '{part}'; choose a recipe ({', '.join(RECIPES)}) or a style "
                f"({', '.join(style_names())}, where shuffle is shuffle-1 … shuffle-5)"
            )
        names += RECIPES.get(part, [part])
    if not names:
        raise FsckitError("`recipe` is empty; try 'fsc-clip'")
    return [create_style(name) for name in dict.fromkeys(names)]
