"""The program that runs in img2dataset's environment; it imports the standard library only.

`describe` prints what is installed there, as JSON. `download` calls `img2dataset.download` with the
arguments from a line of JSON on standard input.

The folder holds nothing else, because Python puts it first on the program's import path.
"""

from __future__ import annotations

import ast
import json
import os
import signal
import sys
import threading
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any


def describe() -> dict[str, Any]:
    """img2dataset's version, options and engines; empty if it is not installed.

    Its source is parsed, because importing it takes seconds.
    """
    spec = find_spec("img2dataset")
    if spec is None or spec.origin is None:
        return {}
    source = Path(spec.origin).with_name("main.py").read_text(encoding="utf-8")
    functions = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    download = next(function for function in functions if function.name == "download")
    engines = [name for name in ("ray", "pyspark") if find_spec(name) is not None]
    return {
        "version": version("img2dataset"),
        "options": [argument.arg for argument in download.args.args],
        "engines": ["multiprocessing", *engines],
    }


def _die_with_parent() -> None:
    """Kill this process and its workers when standard input closes, because fscdata is gone.

    Surviving workers would write into the folder of the next run.
    """
    while os.read(0, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main() -> None:
    if sys.argv[1] == "describe":
        sys.stdout.write(json.dumps(describe()))
        return
    arguments = json.loads(sys.stdin.readline())
    threading.Thread(target=_die_with_parent, daemon=True).start()
    unused = ["torch"]
    if arguments.get("distributor", "multiprocessing") == "multiprocessing":
        unused.append("ray")
    if not arguments.get("enable_wandb"):
        unused.append("wandb")
    os.environ[_UNUSED] = ",".join(unused)
    _skip_imports()
    import_module("img2dataset").download(**arguments)


def _skip_imports() -> None:
    """Keep this process from importing libraries that its job does not use.

    Together they take two thirds of a process's start-up time, and torch most of its memory.
    """
    for name in filter(None, os.environ.get(_UNUSED, "").split(",")):
        # wandb is imported unconditionally, so it needs a stand-in; the others are optional.
        sys.modules[name] = ModuleType(name) if name == "wandb" else None  # type: ignore[assignment]


_UNUSED = "FSCKIT_UNUSED_LIBRARIES"
_skip_imports()  # img2dataset's workers run this file too, with `main`'s environment
if __name__ == "__main__":
    main()
