"""`fsctrain recipes`."""

from __future__ import annotations

from typing import Annotated

import typer
import yaml

from fsctrain.cli.screen import console
from fsctrain.config import recipe_path
from fsctrain.config import recipes as recipe_names

HEADER = ("recipe", "model", "weights", "data", "loss")


def recipes(
    name: Annotated[str | None, typer.Argument(help="the recipe to show")] = None,
) -> None:
    """List the recipes, or show one."""
    if name is not None:
        console.print(recipe_path(name).read_text(encoding="utf-8"), end="")
        return
    rows = [HEADER, *(_row(name) for name in recipe_names())]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        console.print("  ".join(cells).rstrip())


def _row(name: str) -> tuple[str, ...]:
    """A recipe in words; its data set is the folder that its launch command names."""
    text = recipe_path(name).read_text(encoding="utf-8")
    settings = yaml.safe_load(text)
    data = text.splitlines()[0].rpartition("/")[2]
    lora = f", LoRA of rank {settings['lora_rank']}" if "lora_rank" in settings else ""
    return name, settings["model"], settings["pretrained"], data, f"{settings['loss']}{lora}"
