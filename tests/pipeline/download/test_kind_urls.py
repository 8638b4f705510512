"""Downloads URL tables and their images from loopback, through img2dataset."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fscdata.base.progress import Reporter
from fscdata.download.record import read_source
from fscdata.download.run import Options, download, is_complete, plan, retry
from fscdata.steps.expected import Settings
from fscdata.steps.negatives import make_negatives
from support.captions import TEMPLATES
from support.file_server import FileServer
from support.image_server import TIMEOUT, ImageServer
from support.installed import skip_without
from support.manifests import manifest, tree

pytestmark = pytest.mark.slow


def test_downloads_a_url_table_and_retries_it(tmp_path: Path) -> None:
    skip_without("img2dataset", "download")
    data = tmp_path / "data"
    with FileServer() as files, ImageServer() as images:
        kinds = ["ok"] * 8 + ["gone"] * 2 + ["sick"] * 2
        table = "".join(
            f"{TEMPLATES[i]}\t{images.url}/{kind}/{i}\n" for i, kind in enumerate(kinds)
        )
        small = manifest(
            tmp_path,
            kind="urls",
            table_files=[{"name": "t.tsv", "addresses": [files.serve("t.tsv", table.encode())]}],
            columns=["caption", "url"],
            url_column="url",
            caption_column="caption",
            options={"timeout": TIMEOUT, "number_sample_per_shard": 6},
        )
        said: list[str] = []
        options = Options(img2dataset={"processes_count": 1})
        report = download(small, data, options, Reporter(say=said.append))
        assert "probe of 12 rows: success: 8" in said[0]
        assert report.source.samples + sum(report.source.left_out.values()) == 12
        assert report.source.samples == 8
        tars = sum(path.stat().st_size for path in (data / "shards").glob("*.tar"))
        assert report.bytes == len(table) + tars
        assert download(small, data, options).already
        assert download(small, data, Options(img2dataset={"timeout": 9})).already
        for number, before in ((3, "other img2dataset options"), (0, "not a positive number")):
            with pytest.raises(FsckitError, match=before):
                download(small, data, Options(img2dataset={"number_sample_per_shard": number}))
        came, failures = retry(data, 2)
        assert (came, failures) == (2, {"HTTP 404": 2})
        lost = {path: path.read_bytes() for path in (data / "shards").glob("00000*")}
        assert len(lost) == 3
        for path in lost:
            path.unlink()
        for again in (lambda: download(small, data, options), lambda: retry(data)) * 2:
            with pytest.raises(
                FsckitError, match=r"is missing or has changed \(3 files are affected\)"
            ):
                again()
        for path, content in lost.items():
            path.write_bytes(content)
        assert download(small, data, options).already
        (data / "sources" / "t.tsv").write_bytes(b"cut")
        assert not download(small, data, options).already
        assert (data / "sources" / "t.tsv").read_bytes() == table.encode()
    source = read_source(data)
    assert source is not None
    assert source.samples == 10
    assert sum(source.left_out.values()) == 2
    assert is_complete(small, data)
    made = make_negatives(data, Settings("negclip"))
    assert (made.captions, made.failed) == (10, {})


COLUMNS = {"columns": ["caption", "url"], "url_column": "url", "caption_column": "caption"}


def table_of(url: str, *kinds: str, first: int = 0) -> bytes:
    """A TSV with one row per kind of image."""
    rows = (f"{TEMPLATES[i]}\t{url}/{kind}/{i}\n" for i, kind in enumerate(kinds, first))
    return "".join(rows).encode()


def test_a_bad_probe_stops_the_download(tmp_path: Path) -> None:
    skip_without("img2dataset", "download")
    data = tmp_path / "data"
    with FileServer() as files, ImageServer() as images:
        table = table_of(images.url, *["ok"] * 3, *["gone"] * 4)
        address = files.serve("t.tsv", table)
        small = manifest(
            tmp_path,
            kind="urls",
            table_files=[{"name": "t.tsv", "addresses": [address]}],
            **COLUMNS,
        )
        with pytest.raises(FsckitError, match=r"unknown option 'image_sise' of img2dataset"):
            download(small, data, Options(img2dataset={"image_sise": 3}))
        with pytest.raises(FsckitError, match=r"unknown option 'image_sise' of img2dataset"):
            plan(small, Options(img2dataset={"image_sise": 3}))
        assert not files.asked, "refused before the first byte"
        with pytest.raises(
            FsckitError, match=r"t\.tsv: only 43% of 7 probed rows.*HTTP 404: 4.*`min_success`"
        ):
            download(small, data)
        assert sorted(tree(data)) == [
            ".downloading/probe.log", "sources/.t.tsv.lock", "sources/t.tsv",
        ]  # fmt: skip
        assert download(small, data, Options(min_success=0.4)).source.samples == 3
        assert download(small, data, Options(retries=2)).already


def test_reads_a_table_of_several_files_and_the_users_own(tmp_path: Path) -> None:
    skip_without("img2dataset", "download")
    options = {"options": {"disallowed_header_directives": ["noai", "noimageai"]}}
    with FileServer() as files, ImageServer() as images:
        tables = [table_of(images.url, *["ok"] * 3, first=3 * i) for i in range(3)]
        for i, table in enumerate(tables):
            files.serve(f"of/{i:02d}.tsv", table)
        parts = {"name": "in/{00..02}.tsv", "addresses": [f"{files.url}/of/{{00..02}}.tsv"]}
        fetched = manifest(tmp_path, kind="urls", table_files=[parts], **COLUMNS, **options)
        assert download(fetched, tmp_path / "fetched").source.samples == 9
        names = [f"sources/in/{i:02d}.tsv" for i in range(3)]
        assert [name for name in tree(tmp_path / "fetched") if "sources" in name] == names

        own = manifest(tmp_path, kind="urls", table="tables", **COLUMNS, **options)
        with pytest.raises(FsckitError, match=r"own/tables: file not found; put the table there"):
            download(own, tmp_path / "own")
        (tmp_path / "own" / "tables").mkdir()
        for i, table in enumerate(tables):
            (tmp_path / "own" / "tables" / f"{i}.tsv").write_bytes(table)
        assert download(own, tmp_path / "own").source.samples == 9
    made = [make_negatives(tmp_path / name, Settings("negclip")) for name in ("fetched", "own")]
    assert made[0].negatives == made[1].negatives


def test_an_interrupted_retry_keeps_its_finished_rounds(tmp_path: Path) -> None:
    skip_without("img2dataset", "download")
    data = tmp_path / "data"
    with FileServer() as files, ImageServer() as images:
        table = table_of(images.url, *["ok"] * 4, *["sick"] * 3, *["stuck"] * 2)
        parts = [{"name": "t.tsv", "addresses": [files.serve("t.tsv", table)]}]
        options = {"options": {"timeout": TIMEOUT}}
        small = manifest(tmp_path, kind="urls", table_files=parts, **COLUMNS, **options)
        download(small, data, Options(min_success=0.1))
        command = [sys.executable, "-m", "fscdata", "retry", str(data), "--times", "9"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        while not (data / "shards" / "00001.parquet").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (
        errors.splitlines()[-1] == "fscdata: stopped; rerun the same command to resume the download"
    )
    source = read_source(data)
    assert source is not None
    assert (source.samples, source.left_out) == (7, {"time-out": 2})
    assert "shards/00001.tar" in source.present
    assert is_complete(small, data)
