"""The types of the settings: how a word of the command line becomes a value."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field


def _split(value: object) -> object:
    """A flag's `a,b,c` as a list; a recipe may write a list outright."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _pair(value: object) -> object:
    """A flag's `a,b` as two numbers."""
    value = _split(value)
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("two numbers, with a comma between them, are wanted")
    return value


def _shares(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 < value[0] <= value[1] <= 1:
        raise ValueError("two numbers in ascending order, above 0 and at most 1, are wanted")
    return value


def _decays(value: tuple[float, float]) -> tuple[float, float]:
    if not all(0 <= beta < 1 for beta in value):
        raise ValueError("two numbers from 0 to less than 1 are wanted")
    return value


def _folder_name(value: str) -> str:
    if not re.fullmatch(r"[\w-][\w.-]*", value):
        raise ValueError("the name of a folder is wanted: letters, digits, '.', '_' and '-'")
    return value


def _different(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) < len(value):
        raise ValueError("a style is named twice")
    return value


def _folders(value: object) -> object:
    """One folder or several, local or with a scheme (s3://…)."""
    return [str(value)] if isinstance(value, Path) else _split(value)


def _text(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _blocks(value: object) -> object:
    """A flag's `all` or its number of blocks."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    # A recipe's `true` is an int to Python.
    count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if value != "all" and not count:
        raise ValueError("a number of blocks, or all, is wanted")
    return value


def place(folder: str) -> str:
    """One name for a data set's folder, however it is written."""
    return folder.rstrip("/") if "://" in folder else os.path.realpath(folder)


# A data set's folder, local or with a scheme (s3://…), which a Path would spoil.
Folder = Annotated[str, BeforeValidator(_text)]
Folders = Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(_folders)]
FolderName = Annotated[str, AfterValidator(_folder_name)]
Names = Annotated[tuple[str, ...], AfterValidator(_different), BeforeValidator(_split)]
Blocks = Annotated[int | Literal["all"], BeforeValidator(_blocks)]
Numbers = Annotated[tuple[Annotated[float, Field(gt=0)], ...], BeforeValidator(_split)]
Pair = Annotated[tuple[float, float], BeforeValidator(_pair)]
Shares = Annotated[Pair, AfterValidator(_shares)]
Decays = Annotated[Pair, AfterValidator(_decays)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
