"""Runs fscdata download, datasets and retry as a user does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fscdata.cli.download import parse_values
from support.file_server import HTML, FileServer
from support.installed import skip_without

MANIFEST = """\
title: Two files
kind: files
files:
  - name: a.json
    addresses: [{url}/a.json]
    size: 6
  - name: b.json
    addresses: [{url}/b.json]
captions: in a.json
licence:
  name: MIT
  link: https://example.org/mit
  terms: Keep the notice.
citation: Nobody, 2024
on_disk: a.json and b.json
command: fscdata make-negatives {{folder}} --recipe svlc
"""


def run(*words: object, code: int = 0) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, "-m", "fscdata", *(str(word) for word in words)],
        capture_output=True,
        text=True,
        env={"COLUMNS": "120", "PATH": ""},
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def write(folder: Path, url: str) -> Path:
    path = folder / "two.yaml"
    path.write_text(MANIFEST.format(url=url))
    return path


@pytest.mark.slow
def test_downloads_and_keeps_a_finished_data_set(tmp_path: Path) -> None:
    with FileServer() as server:
        for name in ("a.json", "b.json"):
            server.serve(name, b"[1, 2]")
        path = write(tmp_path, server.url)

        dry = run("download", path, tmp_path / "it", "--dry-run")
        assert "MIT (https://example.org/mit). Keep the notice." in dry.stdout
        assert "2 files, 12 bytes, to" in dry.stdout
        assert f"{server.url}/b.json" in dry.stdout
        assert not server.asked
        assert not (tmp_path / "it").exists()
        planned = json.loads(run("download", path, "--dry-run", "--json").stdout)
        assert [file["size"] for file in planned["files"]] == [6, 6]

        # The next command quotes a folder with spaces.
        done = run("download", path, "--data-root", tmp_path / "my data")
        assert (tmp_path / "my data" / "two" / "b.json").read_bytes() == b"[1, 2]"
        terms, progress = done.stderr.index("Keep the notice."), done.stderr.index("fetching: ")
        assert terms < progress
        assert "fetching: 6 bytes of 12 bytes, 0 of 2 files" in done.stderr
        assert "left out: nothing" in done.stdout
        assert f"next: fscdata make-negatives '{tmp_path}/my data/two' --recipe" in done.stdout

        again = run("download", path, "--data-root", tmp_path / "my data")
        assert "already complete, 2 files" in again.stdout
        done = run("download", path, tmp_path / "it", "--json")
        report = json.loads(done.stdout)
        assert (report["already"], report["files"], report["bytes"]) == (False, 2, 12)
        assert report["licence"]["terms"] == "Keep the notice."
        assert "Keep the notice." in done.stderr
        done = run("download", path, tmp_path / "it", "--quiet")
        assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.slow
def test_a_dry_run_reports_a_missing_table(tmp_path: Path) -> None:
    path = write(tmp_path, "http://127.0.0.1:1")
    before, after = path.read_text().split("files:\n")[0], path.read_text().partition("captions:")
    table = "table: mine.tsv\nurl_column: url\ncaption_column: text\n"
    path.write_text(before.replace("kind: files", "kind: urls") + table + "".join(after[1:]))
    skip_without("img2dataset", "download")
    done = run("download", path, tmp_path / "it", "--dry-run")
    assert f"the table is {tmp_path}/it/mine.tsv, which does not exist yet" in done.stdout


@pytest.mark.slow
def test_quiet_prints_the_terms(tmp_path: Path) -> None:
    with FileServer() as server:
        for name in ("a.json", "b.json"):
            server.serve(name, b"[1, 2]")
        done = run("download", write(tmp_path, server.url), tmp_path / "it", "--quiet")
    terms = "Two files; licence: MIT (https://example.org/mit). Keep the notice.\n"
    assert (done.stdout, done.stderr) == ("", terms)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("page.parquet", "HTML page instead of a parquet"),
        ("page.bin", "HTML page instead of a file"),
    ]
    + [(name, "HTML page instead of a t") for name in ("page.txt", "page.xz", "page.bz2")]
    + [("page.jsonl", "HTML page instead of a json"), ("page.html", "")],
)
def test_refuses_an_html_page_with_status_200(tmp_path: Path, name: str, sentence: str) -> None:
    with FileServer() as server:
        server.serve("a.json", b"[1, 2]")
        server.serve(name, HTML)
        path = write(tmp_path, server.url)
        path.write_text(path.read_text().replace("b.json", name))
        done = run("download", path, tmp_path / "it", code=1 if sentence else 0)
    assert sentence in done.stderr
    assert (tmp_path / "it" / name).exists() == (not sentence)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("a=2024-13-45", "2024-13-45"),
        ("a=" + "[" * 5000, "[" * 5000),
        ("a=!!bool x", "!!bool x"),
        ("a=*", "*"),
        ("a=384", 384),
        ("a=[noai, noindex]", ["noai", "noindex"]),
        ("a='2024-01-02'", "2024-01-02"),
    ],
)
def test_reads_option_values_as_yaml_or_text(word: str, value: object) -> None:
    assert parse_values([word]) == {"a": value}


@pytest.mark.slow
def test_a_mistake_is_one_sentence(tmp_path: Path) -> None:
    with FileServer() as server:
        path = write(tmp_path, server.url)
        for words, sentence in [
            (("download", "nothing"), "unknown data set 'nothing'; choose "),
            (("download", path, tmp_path / "it"), "a.json"),
            (("download", path, "memory://it"), "expected a local folder"),
            (
                ("download", path, "-o", "image_size=3"),
                "kind 'files' does not use -o; omit the option",
            ),
            (
                ("download", path, "--min-success", "0.5"),
                "kind 'files' does not use --min-success; omit",
            ),
            (
                ("download", path, "--keep-archives"),
                "kind 'files' does not use --keep-archives; omit",
            ),
            (("download", path, "-o", "image_size"), "expected NAME=VALUE"),
            (("retry", tmp_path), "not made by 'fscdata download'"),
        ]:
            done = run(*words, code=1)
            assert sentence in done.stderr
            assert done.stderr.rstrip().splitlines()[-1].startswith("fscdata: ")
    assert not (tmp_path / "it" / "a.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("as_json", [False, True])
def test_lists_data_sets(tmp_path: Path, as_json: bool) -> None:
    if not as_json:
        table = run("datasets", "--data-root", tmp_path).stdout
        for word in ("coco", "laion-coco-100k", "archive", "about 20.1 GB", "CC BY 4.0", "no"):
            assert word in table
        return
    rows = json.loads(run("datasets", "--data-root", tmp_path, "--json").stdout)
    coco = next(row for row in rows if row["name"] == "coco")
    assert (coco["kind"], coco["bytes"], coco["folder"]) == ("archive", 20_100_000_000, None)
