"""Checks for packages without importing them, since their imports may affect other tests."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


def skip_without(package: str, extra: str) -> None:
    """Skip the test, or the module that says so."""
    if find_spec(package) is None:
        pytest.skip(f"no {package}: pip install 'fsckit[{extra}]'", allow_module_level=True)
