"""Manifests by name or path; a mistake in one is a sentence with its file, line and field."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from fscdata.base.errors import FsckitError
from fscdata.base.text import printable
from fscdata.manifest.kinds import Manifest
from fscdata.manifest.yaml_lines import Node, place, read_yaml

FOLDER = "data_manifests"  # of the shipped manifests

_ADAPTER: TypeAdapter[Manifest] = TypeAdapter(Annotated[Manifest, Field(discriminator="kind")])


def shipped_manifests() -> dict[str, Path]:
    """Name → file of the manifests that come with fsckit, by name."""
    package = Path(__file__).parents[1]
    folder = package / FOLDER  # in a wheel; a checkout has it at its root
    if not folder.is_dir():
        folder = package.parents[1] / FOLDER
    return dict(sorted((path.stem, path) for path in folder.glob("*.yaml")))


def load_manifest(name_or_path: str) -> Manifest:
    """A shipped manifest by its name, or the user's own by its path (`….yaml`).

    Raises:
        FsckitError: there is none, or it says something that a manifest cannot; the file, line and
            field are named.
    """
    if Path(name_or_path).suffix in (".yaml", ".yml"):
        return read_manifest(Path(name_or_path))
    shipped = shipped_manifests()
    if name_or_path not in shipped:
        raise FsckitError(
            f"{name_or_path}: no such data set (there are: {', '.join(shipped)}); a manifest of "
            f"your own is named by its path, ending in .yaml"
        )
    return read_manifest(shipped[name_or_path])


def read_manifest(path: Path) -> Manifest:
    """As `load_manifest`, of a file."""
    node, value = read_yaml(path)
    try:
        return _ADAPTER.validate_python(value)
    except ValidationError as error:
        raise FsckitError(_sentence(path, node, error)) from None


def _sentence(path: Path, node: Node, error: ValidationError) -> str:
    """The first thing wrong with a manifest: file, line, field, what, and how many more."""
    first, *others = error.errors()
    # Of a field of a manifest of some kind, pydantic names the kind first.
    loc = ("kind",) if first["type"] == "union_tag_invalid" else first["loc"][1:]
    field, line = place(node, loc)
    more = f" (and {len(others)} more)" if others else ""
    return f"{path}, line {line}: {_problem(field, first)}{more}"


def _problem(field: str, error: Mapping[str, Any]) -> str:
    """A pydantic error as a clause."""
    match error["type"]:
        case "missing":
            return f"{field}: is missing; add it"
        case "extra_forbidden":
            return f"{field}: a manifest has no such field here; take it out"
        case "string_type" if isinstance(error["input"], dict | list):
            return f"{field}: is not text; write one value"
        case "string_type":  # of a digest or commit made of figures alone, among others
            return f"{field}: is not text; put it in quotes"
        case "union_tag_not_found":
            return "kind: is missing; write huggingface, archive, urls, local or files"
        case "union_tag_invalid":
            given = printable(repr(error["ctx"]["tag"]))
            return f"kind: {given} is none of huggingface, archive, urls, local and files"
    message = printable(str(error["msg"]).removeprefix("Value error, "))
    return f"{field}: {message[0].lower()}{message[1:]}"
