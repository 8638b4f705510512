"""fscdata: images and captions in tars → hard-negative captions in Parquet → look at them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fscdata.base.errors import FsckitError
    from fscdata.negatives.style import Edit
    from fscdata.steps.generate import CaptionNegatives, HardNegative, negatives_of

__all__ = ["CaptionNegatives", "Edit", "FsckitError", "HardNegative", "negatives_of"]
__version__ = "0.1.0"

# Imported on first use: every worker imports this package, and few need these.
_MODULES = {
    "CaptionNegatives": "fscdata.steps.generate",
    "Edit": "fscdata.negatives.style",
    "FsckitError": "fscdata.base.errors",
    "HardNegative": "fscdata.steps.generate",
    "negatives_of": "fscdata.steps.generate",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'fscdata' has no attribute '{name}'")
    return getattr(import_module(_MODULES[name]), name)
