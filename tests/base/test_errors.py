"""How errors are quoted in a sentence."""

from __future__ import annotations

import pytest

from fscdata.base.errors import FsckitError, first_line, last_line
from fscdata.base.extras import requires


@pytest.mark.parametrize(
    ("message", "first", "last"),
    [
        ("one", "one", "one"),
        ("\none\ntwo\n\n", "one", "two"),
        ("", "ValueError", "ValueError"),
        ("\x1b[2J", "\\x1b[2J", "\\x1b[2J"),
        ("x" * 300, "x" * 200, "x" * 200),
    ],
)
def test_lines_of_a_message(message: str, first: str, last: str) -> None:
    assert first_line(ValueError(message)) == first
    assert last_line(ValueError(message)) == last


def test_a_missing_package_names_the_extra() -> None:
    with (
        pytest.raises(
            FsckitError,
            match=r"executor 'x' needs no_such, which is .* run: pip install 'fsckit\[x\]'",
        ),
        requires("x", "executor 'x'"),
    ):
        import no_such.package  # noqa: F401
