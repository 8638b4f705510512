"""Styles and losses by name: a module of fsckit, an entry point of a package, or a file.

A package offers its modules as entry points of the group that is named like our package, for
example `fsctrain.losses`:

    [project.entry-points."fsctrain.losses"]
    triplet = "mypackage.triplet"
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from fscdata.base.errors import FsckitError, first_line

SUFFIX = ".py"


@dataclass(frozen=True)
class Plugin:
    """A module that was found by name.

    Attributes:
        module: the module.
        file: its source file, for messages.
        digest: SHA-256 of that file; None for a module of fsckit, which has a version.
    """

    module: ModuleType
    file: str
    digest: str | None = None


def builtin_names(package: ModuleType) -> list[str]:
    """The names of a package's own modules, with hyphens."""
    names = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name.replace("_", "-") for name in names if not name.startswith("_"))


def plugin_names(package: ModuleType) -> list[str]:
    """The names of a package's own modules, then those of installed entry points."""
    installed = {point.name for point in _installed(package.__name__)}
    own = builtin_names(package)
    return own + sorted(installed - set(own))


def load_plugin(name: str, package: ModuleType, kind: str) -> Plugin:
    """Import the module with that name.

    Args:
        name: of one of the package's modules or entry points, or a path that ends in .py.
        package: whose modules are the built-in ones.
        kind: what the module is, for messages: "loss", "style".

    Raises:
        FsckitError: the name is unknown, the file is missing, or the module cannot be imported.
    """
    if name.endswith(SUFFIX):
        return _from_file(Path(name))
    # Only the chosen module is imported, so that a broken one does not affect the others.
    if name in builtin_names(package):
        full_name = f"{package.__name__}.{name.replace('-', '_')}"
        spec = importlib.util.find_spec(full_name)
        file = str(spec.origin) if spec else full_name
        try:
            return Plugin(importlib.import_module(full_name), file)
        except Exception as error:
            raise _cannot_import(file, error) from error
    for point in _installed(package.__name__):
        if point.name != name:
            continue
        try:
            module = point.load()
        except Exception as error:
            raise _cannot_import(f"{name} ({point.value})", error) from error
        file = str(getattr(module, "__file__", None) or point.value)
        digest = _digest(Path(file)) if Path(file).is_file() else point.value
        return Plugin(module, file, digest)
    raise FsckitError(
        f"unknown {kind} '{name}'; choose {', '.join(plugin_names(package))}, or pass a path to a "
        f"{SUFFIX} file"
    )


@cache  # reads the metadata of every installed package
def _installed(group: str) -> list[EntryPoint]:
    return list(entry_points(group=group))


def _from_file(path: Path) -> Plugin:
    if not path.is_file():
        raise FsckitError(f"{path}: file not found")
    spec = importlib.util.spec_from_file_location(f"fsckit_{path.stem}", path)
    assert spec is not None and spec.loader is not None, "the suffix is Python's"
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _cannot_import(str(path), error) from error
    return Plugin(module, str(path), _digest(path))


def _cannot_import(file: str, error: Exception) -> FsckitError:
    return FsckitError(f"{file}: cannot be imported ({first_line(error)})")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
