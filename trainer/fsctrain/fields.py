"""The types of the settings, which parse command-line strings."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticUndefined

Panel = Literal[
    "Run", "Data", "Model", "Loss", "Optimization", "Evaluation", "Checkpoints", "System"
]


def setting(panel: Panel, default: Any = PydanticUndefined, *, help: str, **limits: Any) -> Any:
    """A field of `Config`.

    Args:
        panel: its section in `fsctrain run --help`.
        default: its value if neither the command line nor the recipe sets it.
        help: a standalone phrase.
        limits: pydantic's constraints, such as `gt=0`.
    """
    return Field(default, description=help, json_schema_extra={"panel": panel}, **limits)


def _split(value: object) -> object:
    """Split `a,b,c` from the command line; a recipe may also use a list."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _pair(value: object) -> object:
    value = _split(value)
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("expected two comma-separated numbers")
    return value


def _shares(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 < value[0] <= value[1] <= 1:
        raise ValueError("expected two ascending numbers above 0 and at most 1")
    return value


def _decays(value: tuple[float, float]) -> tuple[float, float]:
    if not all(0 <= beta < 1 for beta in value):
        raise ValueError("expected two numbers from 0 to less than 1")
    return value


def _folder_name(value: str) -> str:
    if not re.fullmatch(r"[\w-][\w.-]*", value):
        raise ValueError("expected a folder name of letters, digits, '.', '_' and '-'")
    return value


def _distinct(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) < len(value):
        raise ValueError("a name is listed twice")
    return value


def _folders(value: object) -> object:
    """One folder or several, each local or with a scheme (s3://…)."""
    return [str(value)] if isinstance(value, Path) else _split(value)


def _text(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _blocks(value: object) -> object:
    """A number of blocks, or `all`."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    # YAML's `true` is an int to Python.
    count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if value != "all" and not count:
        raise ValueError("expected a number of blocks, or all")
    return value


def normalize_folder(folder: str) -> str:
    """A data set folder in canonical form, for comparison."""
    return folder.rstrip("/") if "://" in folder else os.path.realpath(folder)


# A str, because a Path would collapse the slashes of s3://….
Folder = Annotated[str, BeforeValidator(_text)]
Folders = Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(_folders)]
FolderName = Annotated[str, AfterValidator(_folder_name)]
Names = Annotated[tuple[str, ...], AfterValidator(_distinct), BeforeValidator(_split)]
Blocks = Annotated[int | Literal["all"], BeforeValidator(_blocks)]
Numbers = Annotated[tuple[Annotated[float, Field(gt=0)], ...], BeforeValidator(_split)]
Pair = Annotated[tuple[float, float], BeforeValidator(_pair)]
Shares = Annotated[Pair, AfterValidator(_shares)]
Decays = Annotated[Pair, AfterValidator(_decays)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
