"""`fsctrain recipes`."""

from __future__ import annotations

from typing import Annotated

import typer

from fsctrain.cli.screen import console
from fsctrain.config import recipe_path
from fsctrain.config import recipes as recipe_names


def recipes(
    name: Annotated[str | None, typer.Argument(help="the recipe to show")] = None,
) -> None:
    """List the recipes, or show one."""
    if name is not None:
        console.print(recipe_path(name).read_text(encoding="utf-8"), end="")
        return
    for recipe in recipe_names():
        command = recipe_path(recipe).read_text(encoding="utf-8").splitlines()[0]
        console.print(f"{recipe:12} {command.removeprefix('# ')}")
