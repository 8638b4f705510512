"""What a run prints in a terminal and in a pipe, at several widths."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fsctrain.cli.report import open_view, summary

STYLES = ("negclip", "replace", "shuffle-2", "svlc", "imported")


def training(step: int, **changes: Any) -> dict[str, Any]:
    return {
        "step": step, "epoch": 1, "loss": 2.5, "clip": 1.5, "global": 1.25, "local": 0.75,
        "lr": 4.5e-6, "prefers_true": dict.fromkeys(STYLES, 0.875) | {"svlc": None},
        "samples_per_second": 1234.56, "data_seconds": 0.1, "step_seconds": 0.3,
        "peak_memory_gb": 12.34, **changes,
    }  # fmt: skip


def scores(step: int, score: float) -> dict[str, Any]:
    names = [*(f"choice/{style}" for style in STYLES), "image_to_text_recall@1"]
    return {"step": step, "scores": dict.fromkeys(names, 0.123) | {"score": score}}


RECORDS = [scores(0, 0.25), training(100), scores(100, 0.75), training(200), scores(200, 0.5)]


def shown(width: int, *, terminal: bool, records: list[dict[str, Any]]) -> str:
    """What is left on a screen after the records."""
    file = io.StringIO()
    console = Console(
        file=file, width=width, height=60, force_terminal=terminal, soft_wrap=True, markup=False,
        highlight=False,
    )  # fmt: skip
    with open_view(console) as watch:
        for record in records:
            watch(record, 400)
            console.print("a message", soft_wrap=False)
    return screen(file.getvalue())


def screen(output: str) -> str:
    """What a terminal makes of an output: cursor up, erase line, return and newline."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[\d;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", output):
        if part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif part == "\x1b[1A":
            row -= 1
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part[0] not in "\x1b\r":
            lines[row] += part
    return "\n".join(lines)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_table_shows_every_number_without_breaking_a_word(width: int) -> None:
    everything = shown(width, terminal=True, records=RECORDS)
    assert max(map(len, everything.splitlines())) <= width
    table = everything.rpartition("a message\n")[2]
    expected = ["200/400", "epoch 1", "2.5000", "clip 1.5000", "global 1.2500", "local 0.7500"]
    expected += ["negclip 0.88", "shuffle-2 0.88", "imported 0.88", "4.5e-06", "1234.6 samples/s"]
    expected += ["data wait 25%", "memory 12.3 GB", "step 200", "choice/imported 0.123"]
    expected += ["image_to_text_recall@1", "score 0.500", "0.750 at step 100"]
    for words in expected:
        assert words in table, (words, table)
    assert re.search(r"\d:\d\d:\d\d left", table)
    assert "svlc 0" not in table.replace("choice/svlc", ""), "it has no negative in this batch"


def test_the_table_stays_and_messages_stay_above_it() -> None:
    lines = shown(80, terminal=True, records=RECORDS).splitlines()
    assert lines.count("a message") == len(RECORDS)
    starts = [number for number, line in enumerate(lines) if line.startswith("step ")]
    assert len(starts) == 1 and starts[0] > lines.index("a message")
    assert lines[-1].startswith("best score"), "it ends the screen"


def test_a_pipe_gets_one_line_per_record() -> None:
    lines = shown(80, terminal=False, records=RECORDS[:2]).splitlines()
    assert lines[0].startswith("step 0/400 choice/negclip 0.123 ") and "score 0.250" in lines[0]
    assert lines[2].startswith("step 100/400 epoch 1 loss 2.5000 clip 1.5000 global 1.2500 ")
    assert lines[2].endswith("prefers_true[imported] 0.88 1234.6 samples/s")


def test_the_summary_covers_the_part_before_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    assert summary(path, 400, 75.4) == [
        "finished 200 of 400 steps; this command took 0:01:15",
        "final losses: loss 2.5000, clip 1.5000, global 1.2500, local 0.7500",
        "final prefers_true: negclip 0.88, replace 0.88, shuffle-2 0.88, imported 0.88",
        "best score: 0.750 at step 100",
    ]
    path.write_text(json.dumps(training(7, loss=None, prefers_true={})) + "\n")
    lines = summary(path, 7, 0)
    assert lines[1].startswith("final losses: loss not finite, clip") and len(lines) == 2
