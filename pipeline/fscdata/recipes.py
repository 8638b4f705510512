"""A recipe is an ordered list of styles."""

from __future__ import annotations

from pathlib import Path

from fscdata.base.errors import FsckitError
from fscdata.base.plugins import SUFFIX
from fscdata.negatives.style import Style, create_style, style_names

FSC_CLIP = ["negclip", "replace", "shuffle-2"]
_NOT_IN_ALL = {"shuffle", "imported"}  # `all` has shuffle-2; imported negatives are not made


def recipes() -> dict[str, list[str]]:
    """The recipes, each a list of styles; `all` is every style that makes negatives."""
    others = [name for name in style_names() if name not in {*FSC_CLIP, *_NOT_IN_ALL}]
    return {"fsc-clip": FSC_CLIP, "all": FSC_CLIP + others}


def parse_recipe(text: str) -> list[Style]:
    """Parse a comma-separated list of recipes and styles into styles, in order.

    Raises:
        FsckitError: a name is unknown; the message lists the known ones.
    """
    names: list[str] = []
    known, styles = recipes(), style_names()
    for part in (p.strip() for p in text.split(",")):
        if not part:
            continue
        is_known = part in known or part.partition("-")[0] in styles
        if not is_known and not part.endswith(SUFFIX):
            raise FsckitError(
                f"unknown recipe '{part}'; choose a recipe ({', '.join(known)}), a style "
                f"({', '.join(styles)}, where shuffle is shuffle-1 … shuffle-5), or a path "
                f"to a {SUFFIX} file"
            )
        names += known.get(part, [part])
    if not names:
        raise FsckitError("`recipe` is empty; try 'fsc-clip'")
    return [create_style(name) for name in dict.fromkeys(names)]


def with_absolute_paths(text: str) -> str:
    """A recipe with the paths of its styles made absolute, for processes in other folders."""
    parts = (part.strip() for part in text.split(","))
    return ",".join(str(Path(part).absolute()) if part.endswith(SUFFIX) else part for part in parts)
