"""`fsctrain recipes`."""

from __future__ import annotations

from typing import Annotated

import typer
import yaml

from fsctrain.cli.screen import console
from fsctrain.config import load_config
from fsctrain.recipes import read_recipe, recipe_names

_HEADER = ("recipe", "model", "weights", "data", "loss")


def recipes(
    name: Annotated[str | None, typer.Argument(help="recipe to show")] = None,
) -> None:
    """List the recipes, or show one."""
    if name is not None:
        _show(name)
        return
    rows = [_HEADER, *map(_row, recipe_names())]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        console.print("  ".join(cells).rstrip())


def _show(name: str) -> None:
    """Print a recipe's file and, as comments, all its settings, including inherited ones.

    The output is still a recipe, so that it can be saved and edited.
    """
    recipe = read_recipe(name)
    missing = {} if "data" in recipe.settings else {"data": "DATA"}
    load_config(name, missing)  # reports a mistake in the file
    console.print(recipe.path.read_text(encoding="utf-8").rstrip("\n"))
    if recipe.extends is not None:
        console.print("#\n# All settings:")
        # Lists on one line, as in the files.
        text = yaml.safe_dump(recipe.settings, sort_keys=False, default_flow_style=None)
        for line in text.splitlines():
            console.print(f"#   {line}")


def _row(name: str) -> tuple[str, ...]:
    recipe = read_recipe(name)
    settings = recipe.settings
    lora = f", LoRA rank {settings['lora_rank']}" if "lora_rank" in settings else ""
    loss = f"{settings['loss']}{lora}"
    return name, settings["model"], settings["pretrained"], recipe.dataset or "", loss
