"""Tables of URLs, and pictures on loopback → data sets, through img2dataset."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fscdata.download.record import read_source
from fscdata.steps.download import Options, Show, download, is_there, retry
from fscdata.steps.download_plan import plan
from fscdata.steps.negatives import make_negatives
from fscdata.steps.plan import Settings
from support.captions import TEMPLATES
from support.file_server import FileServer
from support.image_server import PATIENCE, PictureServer
from support.installed import skip_without
from support.manifests import manifest, tree


def test_a_url_table_and_its_retry(tmp_path: Path) -> None:
    skip_without("img2dataset", "download")
    data = tmp_path / "data"
    with FileServer() as files, PictureServer() as pictures:
        kinds = ["ok"] * 8 + ["gone"] * 2 + ["sick"] * 2
        table = "".join(
            f"{TEMPLATES[i]}\t{pictures.url}/{kind}/{i}\n" for i, kind in enumerate(kinds)
        )
        small = manifest(
            tmp_path,
            kind="urls",
            table_files=[{"name": "t.tsv", "addresses": [files.serve("t.tsv", table.encode())]}],
            columns=["caption", "url"],
            url_column="url",
            caption_column="caption",
            options={"timeout": PATIENCE, "number_sample_per_shard": 6},
        )
        said: list[str] = []
        options = Options(img2dataset={"processes_count": 1})
        report = download(small, data, options, Show(say=said.append))
        assert "probe of 12 rows: success: 8" in said[0]
        assert report.source.samples + sum(report.source.left_out.values()) == 12
        assert report.source.samples == 8
        tars = sum(path.stat().st_size for path in (data / "shards").glob("*.tar"))
        assert report.bytes == len(table) + tars
        assert download(small, data, options).already
        assert download(small, data, Options(img2dataset={"timeout": 9})).already
        for number, before in ((3, "other options"), (0, "not a positive number")):
            with pytest.raises(FsckitError, match=before):
                download(small, data, Options(img2dataset={"number_sample_per_shard": number}))
        came, failures = retry(data, 2)
        assert (came, failures) == (2, {"HTTP 404": 2})
        lost = {path: path.read_bytes() for path in (data / "shards").glob("00000*")}
        assert len(lost) == 3
        for path in lost:
            path.unlink()
        for again in (lambda: download(small, data, options), lambda: retry(data)) * 2:
            with pytest.raises(FsckitError, match=r"is lost or has changed \(3 files have\)"):
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
    assert is_there(small, data)
    made = make_negatives(data, Settings("negclip"))
    assert (made.captions, made.failed) == (10, {})


COLUMNS = {"columns": ["caption", "url"], "url_column": "url", "caption_column": "caption"}


def table_of(url: str, *kinds: str, first: int = 0) -> bytes:
    """A TSV with a row a kind of picture."""
    rows = (f"{TEMPLATES[i]}\t{url}/{kind}/{i}\n" for i, kind in enumerate(kinds, first))
    return "".join(rows).encode()


def test_too_few_rows_of_a_probe_stop_the_download(tmp_path: Path) -> None:
    skip_without("img2dataset", "download")
    data = tmp_path / "data"
    with FileServer() as files, PictureServer() as pictures:
        table = table_of(pictures.url, *["ok"] * 3, *["gone"] * 4)
        address = files.serve("t.tsv", table)
        small = manifest(
            tmp_path,
            kind="urls",
            table_files=[{"name": "t.tsv", "addresses": [address]}],
            **COLUMNS,
        )
        with pytest.raises(FsckitError, match=r"'image_sise': img2dataset .* has no such option"):
            download(small, data, Options(img2dataset={"image_sise": 3}))
        with pytest.raises(FsckitError, match=r"'image_sise': img2dataset .* has no such option"):
            plan(small, Options(img2dataset={"image_sise": 3}))
        assert not files.asked, "before the first byte"
        with pytest.raises(
            FsckitError, match=r"t\.tsv: 43% of the 7 rows.*HTTP 404: 4.*--min-success"
        ):
            download(small, data)
        assert sorted(tree(data)) == [
            ".downloading/probe.log", "sources/.t.tsv.lock", "sources/t.tsv",
        ]  # fmt: skip
        assert download(small, data, Options(min_success=0.4)).source.samples == 3
        assert download(small, data, Options(retries=2)).already


def test_a_table_of_several_files_and_one_of_the_users_own(tmp_path: Path) -> None:
    skip_without("img2dataset", "download")
    options = {"options": {"disallowed_header_directives": ["noai", "noimageai"]}}
    with FileServer() as files, PictureServer() as pictures:
        tables = [table_of(pictures.url, *["ok"] * 3, first=3 * i) for i in range(3)]
        for i, table in enumerate(tables):
            files.serve(f"of/{i:02d}.tsv", table)
        parts = {"name": "in/{00..02}.tsv", "addresses": [f"{files.url}/of/{{00..02}}.tsv"]}
        fetched = manifest(tmp_path, kind="urls", table_files=[parts], **COLUMNS, **options)
        assert download(fetched, tmp_path / "fetched").source.samples == 9
        names = [f"sources/in/{i:02d}.tsv" for i in range(3)]
        assert [name for name in tree(tmp_path / "fetched") if "sources" in name] == names

        own = manifest(tmp_path, kind="urls", table="tables", **COLUMNS, **options)
        with pytest.raises(FsckitError, match=r"own/tables: is not there; put the table there"):
            download(own, tmp_path / "own")
        (tmp_path / "own" / "tables").mkdir()
        for i, table in enumerate(tables):
            (tmp_path / "own" / "tables" / f"{i}.tsv").write_bytes(table)
        assert download(own, tmp_path / "own").source.samples == 9
    made = [make_negatives(tmp_path / name, Settings("negclip")) for name in ("fetched", "own")]
    assert made[0].negatives == made[1].negatives


def test_a_retry_that_is_stopped_leaves_its_rounds(tmp_path: Path) -> None:
    skip_without("img2dataset", "download")
    data = tmp_path / "data"
    with FileServer() as files, PictureServer() as pictures:
        table = table_of(pictures.url, *["ok"] * 4, *["sick"] * 3, *["stuck"] * 2)
        parts = [{"name": "t.tsv", "addresses": [files.serve("t.tsv", table)]}]
        options = {"options": {"timeout": PATIENCE}}
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
    assert errors.splitlines()[-1] == "fscdata: stopped; the same command again goes on from here"
    source = read_source(data)
    assert source is not None
    assert (source.samples, source.left_out) == (7, {"time-out": 2})
    assert "shards/00001.tar" in source.present
    assert is_there(small, data)
