"""Optional packages: what to install when one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fscdata.base.errors import FsckitError


@contextmanager
def requires(extra: str, feature: str) -> Iterator[None]:
    """Import optional packages in the block; a missing one becomes a sentence.

    Args:
        extra: fsckit's extra that installs them.
        feature: what needs them, as the subject of the sentence: "--executor ray".

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
