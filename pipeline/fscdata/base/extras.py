"""Optional packages: what to install when one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fscdata.base.errors import FsckitError


@contextmanager
def requires(extra: str, feature: str) -> Iterator[None]:
    """Import optional packages in the block; if one is missing, say how to install it.

    Args:
        extra: the fsckit extra that installs them.
        feature: the feature that needs them, to start the message: "--executor ray".

    Raises:
        FsckitError: a package is not installed.
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or "").partition(".")[0] or "a package"
        raise FsckitError(
            f"{feature} needs {package}, which is not installed; run: pip install 'fsckit[{extra}]'"
        ) from None
