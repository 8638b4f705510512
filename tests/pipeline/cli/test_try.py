import io
import json
import re
import sys

import pytest

import fscdata
from fscdata.cli import main

SENTENCE = "a horse eating grass"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str, stdin: bytes | None = None) -> int:
    """The exit code; stdin is a terminal unless given."""
    stream = io.TextIOWrapper(io.BytesIO(stdin or b""))
    monkeypatch.setattr(stream, "isatty", lambda: stdin is None, raising=False)
    monkeypatch.setattr(sys, "stdin", stream)
    monkeypatch.setattr(sys, "argv", ["fscdata", "try", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def test_a_pipe_gets_plain_lines(monkeypatch, capsys) -> None:
    assert run(monkeypatch, SENTENCE) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    [result] = fscdata.negatives_of([SENTENCE], "all")
    assert first == SENTENCE
    for line, negative in zip(lines, result.negatives, strict=True):
        assert re.match(rf"  {negative.style} +{re.escape(negative.text)}  \(", line)
        assert negative.operator in line
    assert {line.split()[0] for line in lines} == {"negclip", "replace", "shuffle-2", "svlc"}


def test_a_terminal_shows_the_changed_words_in_colour(monkeypatch, capsys) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert run(monkeypatch, SENTENCE, "--recipe", "negclip") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"\x1b[1m{SENTENCE}\x1b[0m"
    swap = "a \x1b[9;31mhorse\x1b[0m\x1b[2m→\x1b[0m\x1b[32mgrass\x1b[0m eating "
    assert lines[1].startswith(f"  negclip  {swap}")


def test_the_words_of_a_sentence_need_no_quotes(monkeypatch, capsys) -> None:
    assert run(monkeypatch, *SENTENCE.split(), "--recipe", "negclip") == 0
    assert capsys.readouterr().out.startswith(f"{SENTENCE}\n")


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_lines_of_stdin_are_answered_in_order(monkeypatch, capsys, arguments) -> None:
    lines = "a red car\n\n  naïve \x1b[31m dog  \n".encode()
    assert run(monkeypatch, *arguments, "--recipe", "negclip,svlc", stdin=lines) == 0
    out = capsys.readouterr().out
    first, second = out.split("\n\n")
    assert first.startswith("a red car\n")
    assert second.startswith("naïve \\x1b[31m dog\n")
    assert "  negclip  none: no two spans of a family that differ\n" in out


def test_json_has_the_edits_and_the_reasons(monkeypatch, capsys) -> None:
    options = ["--json", "--recipe", "shuffle-2,svlc", "--variants", "2", "--seed", "3"]
    assert run(monkeypatch, "a dog", *options) == 0
    record = json.loads(capsys.readouterr().out)
    [result] = fscdata.negatives_of(["a dog"], "shuffle-2,svlc", 2, 3)
    assert record["without"] == result.without == {"shuffle-2": "fewer than two n-grams"}
    assert [n["text"] for n in record["negatives"]] == [n.text for n in result.negatives]
    edit = record["negatives"][0]["edits"][0]
    assert (edit["start"], edit["end"], edit["old"]) == (2, 5, "dog")


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "words"),
    [
        ([], None, 2, "expected a sentence, or lines on stdin"),
        ([], b"\n", 1, "fscdata: stdin: contains no sentence"),
        (["-"], b"a dog\n\xff\n", 1, "fscdata: stdin: line 2 is not UTF-8"),
        (["a"], None, 1, "fscdata: --variants 0: choose 1 to 127"),
    ],
)
def test_a_mistake_gives_one_sentence(monkeypatch, capsys, arguments, stdin, code, words) -> None:
    options = ["--variants", "0"] if arguments == ["a"] else []
    assert run(monkeypatch, *arguments, *options, stdin=stdin) == code
    assert words in capsys.readouterr().err
