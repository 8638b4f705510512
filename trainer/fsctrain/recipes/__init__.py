"""Recipes: YAML files of settings, found by name (in this folder) or by path.

A recipe maps settings of `fsctrain.config.Config` to values. Two more keys describe the recipe
itself: `extends` names the recipe whose settings it starts from (a shipped recipe's name, or a path
relative to the file), and `dataset` names the data set it was published for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fscdata.base.errors import FsckitError, first_line

FOLDER = Path(__file__).parent

# A recipe keeps its own name, even if it extends a run's config.yaml.
_NOT_INHERITED = frozenset({"name", "recipe"})


@dataclass(frozen=True)
class Recipe:
    """A recipe with its `extends` resolved.

    Attributes:
        path: its file.
        settings: all settings, its own and those it extends.
        sources: the file that each setting comes from, for error messages.
        extends: the recipe it extends, as written; None if it stands alone.
        dataset: the data set it was published for; None if not stated.
    """

    path: Path
    settings: dict[str, Any]
    sources: dict[str, Path]
    extends: str | None
    dataset: str | None


def recipe_names() -> list[str]:
    """The names of the recipes that ship with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find_recipe(recipe: str) -> Path:
    """The file of a recipe, given by name or by path.

    Raises:
        FsckitError: unknown name, or file not found.
    """
    return _locate(recipe, Path(), "")


def read_recipe(recipe: str) -> Recipe:
    """Read a recipe, given by name or by path, and the recipes it extends.

    Raises:
        FsckitError: a recipe is unknown or missing, a file is not a recipe, or recipes extend
            one another in a cycle. `Config` checks the names and values of settings.
    """
    files = [find_recipe(recipe)]
    contents = [_load(files[0])]
    while (parent := _text(contents[-1], "extends", files[-1])) is not None:
        path = _locate(parent, files[-1].parent, f"{files[-1]}: extends: ")
        # samefile also recognizes links and other spellings of a path.
        if any(path.samefile(file) for file in files):
            raise FsckitError(
                f"{files[-1]}: extends: {parent} leads back to {path}; break the cycle"
            )
        files.append(path)
        contents.append(_load(path))

    # From the last ancestor to the recipe itself, so that recipes override what they extend.
    settings: dict[str, Any] = {}
    sources: dict[str, Path] = {}
    for file, content in zip(reversed(files), reversed(contents), strict=True):
        for name, value in content.items():
            if name != "extends" and (file == files[0] or name not in _NOT_INHERITED):
                settings[name], sources[name] = value, file
    dataset = _text(settings, "dataset", sources.pop("dataset", files[0]))
    settings.pop("dataset", None)
    return Recipe(files[0], settings, sources, contents[0].get("extends"), dataset)


def _locate(recipe: str, folder: Path, prefix: str) -> Path:
    """A recipe's file; a path is relative to `folder`, and errors start with `prefix`."""
    if recipe in recipe_names():
        return FOLDER / f"{recipe}.yaml"
    path = folder / recipe
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise FsckitError(f"{prefix}{path}: file not found")
    raise FsckitError(
        f"{prefix}unknown recipe '{recipe}'; choose {', '.join(recipe_names())}, or pass a path to "
        f"a .yaml file"
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        str(content)  # fails on integers too long for Python to print, which no setting needs
    # YAML's constructors raise ValueError (dates, integers) and RecursionError (nesting) too.
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise FsckitError(f"{path}: not a YAML file ({first_line(error)})") from None
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise FsckitError(f"{path}: expected a mapping of settings to values")
    return content


def _text(content: Mapping[str, Any], key: str, path: Path) -> str | None:
    value = content.get(key)
    if value is not None and not isinstance(value, str):
        raise FsckitError(f"{path}: {key}: expected text, not {value}")
    return value
