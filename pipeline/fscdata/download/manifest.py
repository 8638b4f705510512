"""A data set's manifest, `data_manifests/NAME.yaml`: its source and its terms.

A manifest omits what its source does not publish: we know of no digests for COCO's zips and have
not looked up the commits of hub repositories. `about` is a rounded size, which is not checked. The
download records what it finds in the data set's `SOURCE.json`, and a resumed download stays at the
commit that it started with.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fscdata.base.errors import FsckitError
from fscdata.base.text import printable
from fscdata.download import kinds
from fscdata.download.kind import Manifest
from fscdata.download.yaml_lines import Node, locate, read_yaml

FOLDER = "data_manifests"  # of the shipped manifests


def kind_names() -> list[str]:
    """The kinds of manifest, from their file names."""
    return sorted(module.name for module in pkgutil.iter_modules(kinds.__path__))


def find_kind(name: object) -> type[Manifest]:
    """The model of a kind.

    Raises:
        FsckitError: no module has that name.
    """
    if name not in kind_names():
        known = ", ".join(kind_names())
        raise FsckitError(f"unknown kind {printable(repr(name))}; choose {known}")
    model: type[Manifest] = importlib.import_module(f"{kinds.__name__}.{name}").Kind
    return model


def shipped_manifests() -> dict[str, Path]:
    """Name → file of the manifests that come with fsckit, sorted by name."""
    package = Path(__file__).parents[1]
    folder = package / FOLDER  # in a wheel; a checkout has it at its root
    if not folder.is_dir():
        folder = package.parents[1] / FOLDER
    return dict(sorted((path.stem, path) for path in folder.glob("*.yaml")))


def load_manifest(name_or_path: str) -> Manifest:
    """Load a shipped manifest by name, or a user's own by path (`….yaml`).

    Raises:
        FsckitError: the manifest does not exist or has a mistake; the message names the file, the
            line and the field.
    """
    if Path(name_or_path).suffix in (".yaml", ".yml"):
        return read_manifest(Path(name_or_path))
    shipped = shipped_manifests()
    if name_or_path not in shipped:
        raise FsckitError(
            f"unknown data set '{name_or_path}'; choose {', '.join(shipped)}, or pass the path of "
            f"your own manifest, ending in .yaml"
        )
    return read_manifest(shipped[name_or_path])


def read_manifest(path: Path) -> Manifest:
    """Like `load_manifest`, from a file."""
    node, value = read_yaml(path)
    if "kind" not in value:
        raise FsckitError(f"{path}, line 1: kind: is missing; choose {', '.join(kind_names())}")
    try:
        return _model(path, node, value["kind"]).model_validate(value)
    except ValidationError as error:
        raise FsckitError(_sentence(path, node, error)) from None


def _model(path: Path, node: Node, kind: object) -> type[Manifest]:
    try:
        return find_kind(kind)
    except FsckitError as error:
        _, line = locate(node, ("kind",))
        raise FsckitError(f"{path}, line {line}: {error}") from None


def _sentence(path: Path, node: Node, error: ValidationError) -> str:
    """A manifest's first mistake, with file, line and field, and the number of others."""
    first, *others = error.errors()
    name, line = locate(node, first["loc"])
    more = f" (and {len(others)} more)" if others else ""
    return f"{path}, line {line}: {_problem(name, first)}{more}"


def _problem(name: str, error: Mapping[str, Any]) -> str:
    """A pydantic error as a clause."""
    match error["type"]:
        case "missing":
            return f"{name}: is missing; add it"
        case "extra_forbidden":
            return f"{name}: unknown field; remove it"
        case "string_type" if isinstance(error["input"], dict | list):
            return f"{name}: is not text; write one value"
        case "string_type":  # for example a digest or commit of digits only
            return f"{name}: is not text; put it in quotes"
    message = printable(str(error["msg"]).removeprefix("Value error, "))
    return f"{name}: {message[0].lower()}{message[1:]}"
