"""What runs in img2dataset's environment, as a program: the standard library alone.

`describe` prints as JSON what is installed there; `download` calls `img2dataset.download` with the
arguments that come as a line of JSON on standard input.
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
from typing import Any


def describe() -> dict[str, Any]:
    """img2dataset's version and options, and the engines that it finds; nothing if it is missing.

    Its source is read, not imported: to import it takes seconds.
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
    """End this process and its workers when standard input closes: fscdata is gone.

    Workers that outlived it would write into a folder that the next run works in.
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
    import_module("img2dataset").download(**arguments)


# webdataset imports torch where it is, and img2dataset has no use for it: half of the start of
# every process, and most of its memory. Here, since a worker runs this file too before it begins.
sys.modules["torch"] = None  # type: ignore[assignment]
if __name__ == "__main__":
    main()
