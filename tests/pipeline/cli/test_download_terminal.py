"""Checks what fscdata download and datasets print in a pseudo-terminal, and without one."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fscdata.download.manifest import shipped_manifests
from support.file_server import FileServer, Served
from support.manifests import manifest
from support.tars import jpeg

pytestmark = pytest.mark.slow

COLUMNS = 80
CAPTIONS = b"image,caption\n" + b"".join(b"%d.jpg,Image %d.\n" % (i, i) for i in range(13))
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
BAR = re.compile(r"━ fetching: (\S+ \w+) of (\S+ \w+), (\d) of 2 files(?:, (\d+:\d\d:\d\d) left)?$")


def in_terminal(*words: object) -> tuple[int, list[str]]:
    """The exit code, and all lines written to an 80-column terminal, even overwritten ones."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    process = subprocess.Popen(
        command(*words), stdin=end, stdout=end, stderr=end, env=environment(TERM="xterm-256color")
    )
    os.close(end)
    written = io.BytesIO()
    while block := read(terminal):
        written.write(block)
    os.close(terminal)
    text = ESCAPE.sub("", written.getvalue().decode())
    return process.wait(), re.split(r"[\r\n]+", text)


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 2**16)
    except OSError:  # on Linux, when the other end is closed
        return b""


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "fscdata", *map(str, words)]


def environment(**more: str) -> dict[str, str]:
    """This environment without variables that override the terminal's size and kind."""
    rules = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    return {name: value for name, value in os.environ.items() if name not in rules} | more


def table(lines: list[str]) -> dict[str, str]:
    """The closing table by its header; its lines must be contiguous."""
    [top] = [number for number, line in enumerate(lines) if line.startswith("┏")]
    head, rule, row, bottom = lines[top + 1 : top + 5]
    assert (rule[0], bottom[0]) == ("┡", "└")
    assert len({len(line) for line in lines[top : top + 5]}) == 1
    cells = [[cell.strip() for cell in re.split("[┃│]", line)[1:-1]] for line in (head, row)]
    return dict(zip(*cells, strict=True))


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Path]:
    """The manifest of an archive of 12 images and 13 captions on a slow server."""
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("unused.bin", bytes(500_000))
        archive.writestr("11.jpg", b"not an image")
        for i in range(11):
            archive.writestr(f"{i}.jpg", jpeg((i, i, i)))
    with FileServer() as server:
        address = server.serve("images.zip", Served(zipped.getvalue(), pause=0.1))
        size = len(zipped.getvalue())
        captions = server.serve("captions.csv", CAPTIONS)
        manifest(
            tmp_path,
            kind="archive",
            archives=[{"name": "images.zip", "addresses": [address], "size": size}],
            caption_files=[
                {"name": "captions.csv", "addresses": [captions], "size": len(CAPTIONS)}
            ],
            packs=[{"captions": "captions.csv"}],
        )
        yield tmp_path / "small.yaml"


def check_closing(lines: list[str], data: Path) -> None:
    """Check the table and the reasons below it."""
    cells = table(lines)
    size = sum(path.stat().st_size for path in (data / "sources").iterdir() if path.is_file())
    assert re.fullmatch(r"\d+\.\d", seconds := cells.pop("seconds"))
    assert float(seconds) > 1
    assert cells == {
        "files": "2", "bytes": f"{size / 1000:.1f} kB", "shards": "1", "samples": "11",
        "captions": "11",
    }  # fmt: skip
    closing = next(line for line in lines if "left out: " in line)
    assert set(closing.partition("left out: ")[2].split(", ")) == {
        "missing image: 1", "unreadable image: 1",
    }  # fmt: skip


def test_shows_a_bar_in_a_terminal(slow: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    code, lines = in_terminal("download", slow, data, "--keep-archives")
    assert code == 0
    assert lines[0] == "Small; licence: MIT (https://example.org/mit). Keep the notice."
    seen = [match.groups() for line in lines if (match := BAR.search(line))]
    assert len({done for done, *_ in seen}) > 5, "the bar moves"
    assert {total for _, total, *_ in seen} == {seen[0][1]}
    assert [files for *_, files, _ in seen] == sorted(files for *_, files, _ in seen)
    assert seen[-1][0] == seen[-1][1], "it ends with all bytes"
    assert seen[-1][2] == "2", "and all files"
    assert any(left is not None and left > "0:00:00" for *_, left in seen)
    assert all(len(line) <= COLUMNS for line in lines[1:] if "fetching" in line)
    assert any("packing captions.csv: " in line for line in lines)
    check_closing(lines, data)


def test_prints_lines_without_a_terminal(slow: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    done = subprocess.run(
        command("download", slow, data, "--keep-archives"),
        capture_output=True, text=True, check=True, env=environment(COLUMNS="80"),
    )  # fmt: skip
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stderr
    assert "━" not in done.stderr
    terms, fetching, *others = done.stderr.splitlines()
    assert "Keep the notice." in terms
    assert re.fullmatch(r"fetching: \S+ \w+ of \S+ kB, 0 of 2 files", fetching)
    assert any(line.startswith("packing captions.csv: ") for line in others)
    check_closing(done.stdout.splitlines(), data)


def test_shows_full_names_of_data_sets(tmp_path: Path) -> None:
    """A long folder may be truncated, but 'fscdata download' needs the full name."""
    long = tmp_path / "a-long-name-of-a-folder" / "another-long-name" / "data"
    code, lines = in_terminal("datasets", "--data-root", long)
    assert code == 0
    assert all(len(line) <= COLUMNS for line in lines)
    first = [cells[1].strip() for line in lines if len(cells := line.split("│")) > 1]
    assert [name for name in first if name] == list(shipped_manifests())
