"""Progress as users see it."""

from __future__ import annotations

import pytest

from fscdata.base import display as module
from fscdata.base.display import display
from fscdata.base.progress import SILENT, Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A fake clock that tests set."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_lines_without_a_terminal(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """A line for a new stage, then one every ten seconds, with the time left at this run's pace."""
    with display() as reporter:
        for now, done in ((0, 1_000_000), (1, 2_000_000), (10, 3_000_000), (12, 3_500_000)):
            clock[0] = now
            reporter.progress(Progress("fetching", done, 5_000_000, detail="1 of 2 files"))
        reporter.counter("packing", "images")(3, 7)
        reporter.progress(Progress("making", 2, 8, "shards", "9 captions/s", seconds_left=90))
        reporter.say("a server says\x1b[2J wait")
    assert capsys.readouterr().err.splitlines() == [
        "fetching: 1.0 MB of 5.0 MB, 1 of 2 files",
        "fetching: 3.0 MB of 5.0 MB, 1 of 2 files, 0:00:10 left",
        "packing: 3 of 7 images",
        "making: 2 of 8 shards, 9 captions/s, 0:01:30 left",
        "a server says\\x1b[2J wait",
    ]


def test_a_bar_in_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with display() as reporter:
        reporter.progress(Progress("fetching", 1, None, "files"))
    assert "fetching: 1 files" in capsys.readouterr().err


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    with display(silent=True) as reporter:
        assert reporter is SILENT
        reporter.progress(Progress("fetching"))
        reporter.say("nothing")
    assert capsys.readouterr().err == ""
