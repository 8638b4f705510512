import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import fscdata
from fscdata.cli import Commands, main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["fscdata", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


@pytest.fixture
def given(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (4, 4)).save(tmp_path / "in" / name)
    (tmp_path / "c.tsv").write_text("image\tcaption\na.jpg\tA cat\na.jpg\tA dog\nx.jpg\tGone\n")
    return tmp_path


def pack(given: Path) -> list[object]:
    return ["pack", given / "data", "--images", given / "in", "--captions", given / "c.tsv"]


def test_pack_prints_the_counts(
    given: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *pack(given)) == 0
    output = capsys.readouterr()
    size = (given / "data" / "shards" / "00000.tar").stat().st_size
    assert output.out == (
        f"{given / 'data'}: 1 samples, 2 captions, 0 published negatives, 1 shards, "
        f"{size / 1000:.1f} kB; images without a row in the caption file: 1; skipped: "
        f"missing image: 1\n"
    )
    assert output.err == "packing c.tsv: 1 of 1 images\n"  # a line, since stderr is not a terminal


def test_a_mistake_prints_one_sentence_and_exits_with_1(
    given: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, *pack(given))
    capsys.readouterr()
    for arguments, words in (
        (pack(given), "already contains shards"),
        (["inspect", given / "data"], "no samples table"),
        (["sql", given / "data", "SELECT 1"], "no samples table"),
        (["db", given / "data"], "no samples table"),
        (["db", given / "data", "--out", "s3://x/y"], "--out s3://x/y: expected a local file"),
        (["inspect", given / "no\x1b[2Jwhere"], "no such folder"),
        ([*pack(given)[:1], given / "c.tsv", *pack(given)[2:]], "c.tsv: File exists"),
    ):
        assert run(monkeypatch, *arguments) == 1
        error = capsys.readouterr().err
        assert error.startswith("fscdata: ")
        assert words in error
        assert error.count("\n") == 1
        assert "\x1b" not in error


def test_wrong_usage_exits_with_2(
    given: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "pack", given / "data") == 2
    assert run(monkeypatch, *pack(given), "--samples-per-shard", 0) == 2
    assert run(monkeypatch, "sql", given, "SELECT 1", "--format", "xml") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_interrupt_exits_with_130(given: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fscdata.steps.pack.pack", interrupt)
    assert run(monkeypatch, *pack(given)) == 130


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"fscdata {fscdata.__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    heavy = ["torch", "spacy", "duckdb", "webdataset", "PIL", "pandas"]
    code = f"import fscdata.cli, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_summaries_are_the_docstrings_first_lines() -> None:
    """`fscdata --help` imports no subcommand, so its summaries are written twice."""
    for name, (_, summary) in Commands.lazy.items():
        command = Commands().load(name)
        assert command.help.splitlines()[0] == summary, name
