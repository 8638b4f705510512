"""A recipe is an ordered list of styles."""

from __future__ import annotations

from fscdata.base.errors import FsckitError
from fscdata.negatives.style import Style, create_style, style_names

RECIPES = {
    "fsc-clip": ["negclip", "replace", "shuffle-2"],
}


def parse_recipe(text: str) -> list[Style]:
    """The styles of a recipe, of a style, or of a comma-separated list of both, in that order.

    Raises:
        FsckitError: a name that is neither; the sentence lists those that are.
    """
    names: list[str] = []
    for part in (p.strip() for p in text.split(",")):
        if not part:
            continue
        if part not in RECIPES and part.partition("-")[0] not in style_names():
            raise FsckitError(
                f"unknown recipe '{part}'; there are the recipes {', '.join(RECIPES)} and the "
                f"styles {', '.join(style_names())} (shuffle as shuffle-1 … shuffle-5)"
            )
        names += RECIPES.get(part, [part])
    if not names:
        raise FsckitError("--recipe names nothing; 'fsc-clip' is the usual one")
    return [create_style(name) for name in dict.fromkeys(names)]
