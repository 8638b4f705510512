"""Data sets in object stores: a real S3 server on loopback, and fsspec's memory://."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from upath import UPath

from fscdata.base.errors import FsckitError
from fscdata.base.paths import BLOCK, DataPath, data_path
from fscdata.contract import (
    index_tar,
    negatives_path,
    open_dataset,
    read_metadata,
    read_table,
    samples_path,
    shard_paths,
    write_parquet,
)
from fscdata.explore import connect, inspect, print_query, write_database
from fscdata.explore.views import duckdb_errors
from fscdata.steps.expected import Settings
from fscdata.steps.negatives import make_negatives
from support.captions import TEMPLATES
from support.s3_server import S3Server, s3_server
from support.tars import img2dataset_sample, write_shards, write_tar

pytestmark = pytest.mark.slow

SHARDS = [[(f"{s}{i}", [TEMPLATES[4 * s + i], "a dog"]) for i in range(4)] for s in range(2)]
SETTINGS = Settings("negclip,shuffle-2", variants=2)
STYLES = ["negclip", "shuffle-2"]


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as running, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in running.environment.items():
            patch.setenv(name, value)
        running.client().create_bucket(Bucket="bucket")
        yield running


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local data set with its tables."""
    data = tmp_path_factory.mktemp("local")
    write_shards(data, SHARDS)
    make_negatives(data, SETTINGS)
    return data


def put(local: Path, remote: DataPath, pattern: str) -> None:
    """Copy the files of a local data set into a remote one."""
    for file in local.rglob(pattern):
        target = remote / file.relative_to(local).as_posix()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())


@pytest.fixture(params=["s3://bucket/set", "memory://bucket/of [cats]/set"], scope="module")
def remote(request: pytest.FixtureRequest, server: S3Server, local: Path) -> DataPath:
    """The same data set in a store, with tables made there."""
    data = data_path(request.param)
    put(local, data, "*.tar")
    report = make_negatives(data, SETTINGS)
    assert (report.shards, report.captions, report.failed) == (2, 16, {})
    return data


def test_tables_equal_the_local_ones_byte_for_byte(remote: DataPath, local: Path) -> None:
    made = {table.relative_to(local).as_posix(): table for table in local.rglob("*.parquet")}
    assert len(made) == 2 * (1 + len(STYLES))
    for name, table in made.items():
        assert (remote / name).read_bytes() == table.read_bytes()
    names = {path.name for path in (remote / "negatives" / "negclip").iterdir()}
    assert names == {"00000.parquet", "00001.parquet"}


def test_a_second_run_skips_everything(remote: DataPath) -> None:
    report = make_negatives(remote, SETTINGS)
    assert (report.shards, report.skipped, report.written) == (0, 2, 0)


def test_tables_of_a_changed_tar_are_remade(server: S3Server, local: Path) -> None:
    data = data_path("s3://bucket/changing")
    put(local, data, "*.tar")
    make_negatives(data, SETTINGS)
    before = read_table(samples_path(data, "00000"), ["caption"])
    write_shards(local.parent / "other", [SHARDS[1], SHARDS[0]])
    put(local.parent / "other", data, "00000.tar")
    (data / "shards" / "00001.tar").unlink()
    for table in ("samples", "negatives/negclip", "negatives/shuffle-2"):
        (data / table / "00001.parquet").unlink()
    assert make_negatives(data, SETTINGS).shards == 1
    assert read_table(samples_path(data, "00000"), ["caption"]) != before
    assert open_dataset(data, STYLES).tars == [data / "shards" / "00000.tar"]


def test_open_dataset(remote: DataPath, local: Path) -> None:
    ours, theirs = open_dataset(remote, STYLES), open_dataset(local, STYLES)
    assert ours.samples == theirs.samples
    assert ours.negatives == theirs.negatives
    assert [tar.name for tar in ours.tars] == ["00000.tar", "00001.tar"]


def shown(function: Any, data: DataPath, *args: Any) -> str:
    console = Console(file=io.StringIO(), width=120)
    function(data, *args, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_inspect_and_sql_agree_with_the_local_ones(remote: DataPath, local: Path) -> None:
    assert shown(inspect, remote).splitlines()[1:] == shown(inspect, local).splitlines()[1:]
    for sql in ("FROM coverage", "FROM negatives ORDER BY ALL", "FROM samples ORDER BY ALL"):
        rows = shown(print_query, remote, sql, "json")
        assert json.loads(rows)
        assert rows == shown(print_query, local, sql, "json")


def test_a_new_connection_sees_new_tables(remote: DataPath, local: Path) -> None:
    data = remote.parent / "growing [it's]"
    put(local, data, "00000.*")
    count = "SELECT count(*) FROM samples"
    with connect(data) as first:
        assert first.execute(count).fetchall() == [(8,)]
    put(local, data, "00001.*")
    with connect(data) as second:
        assert second.execute(count).fetchall() == [(16,)]


def test_a_database_needs_local_tables(remote: DataPath, tmp_path: Path) -> None:
    with pytest.raises(
        FsckitError, match=r"can only view local tables; query these with 'fscdata sql .*://bucket"
    ):
        write_database(remote, tmp_path / "x.duckdb")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def large(server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DataPath]:
    """A local and a remote tar with 200 images of 100 kB and one of twice the block size."""
    members = []
    for i in range(200):
        (name, _), *texts = img2dataset_sample(f"{i:09d}", TEMPLATES[i % len(TEMPLATES)])
        members += [(name, os.urandom(100_000)), *texts]
    (name, _), *texts = img2dataset_sample("huge", "a dog")
    members += [(name, bytes(2 * BLOCK)), *texts]
    local = write_tar(tmp_path_factory.mktemp("large") / "00000.tar", members)
    remote = data_path("s3://bucket/large/00000.tar")
    remote.write_bytes(local.read_bytes())
    return local, remote


def test_a_tar_needs_few_requests_and_reads_no_byte_twice(
    server: S3Server, large: tuple[Path, DataPath]
) -> None:
    local, remote = large
    server.requests.clear()
    assert index_tar(remote) == index_tar(local)
    assert server.count("HEAD") == len(server.requests) - server.count("GET") == 1
    ranges = [
        tuple(map(int, r.removeprefix("bytes=").split("-"))) for _, _, r in server.requests[1:]
    ]
    assert len(ranges) <= 4
    assert all(before[1] < after[0] for before, after in pairwise(ranges))
    read = sum(last - first + 1 for first, last in ranges)
    assert read < local.stat().st_size - BLOCK // 2, "the huge image is skipped"


def test_footers_and_queries_need_few_requests(server: S3Server, local: Path) -> None:
    data = data_path("s3://bucket/counted")
    put(local, data, "*.parquet")
    server.requests.clear()
    read_metadata(samples_path(data, "00000"))
    assert (server.count("HEAD"), server.count("GET")) == (1, 1)
    with connect(data) as connection:
        server.requests.clear()
        connection.execute("SELECT sum(len(caption)) FROM samples").fetchall()
    assert server.count("HEAD") == 0
    assert server.count("GET", ".parquet") == len(server.requests) <= 4


def test_missing_data_sets_and_files(server: S3Server, local: Path) -> None:
    for url in ("s3://bucket/nothing", "s3://nobucket/set", "memory://nothing/set"):
        for use in (shard_paths, lambda data: make_negatives(data, SETTINGS), connect):
            with pytest.raises(FsckitError, match=f"{url}: no such folder"):
                use(data_path(url))
    data = data_path("s3://bucket/missing")
    put(local, data, "00000.parquet")
    with pytest.raises(FsckitError, match=r"no .tar files here .* 'fscdata pack' and upload them"):
        shard_paths(data)
    for table in data.glob("*/*.parquet"):
        table.unlink()
    put(local, data, "*.tar")
    with pytest.raises(FsckitError, match=r"s3://bucket/missing: no samples table; make it with"):
        connect(data)
    put(local, data, "*.parquet")
    negatives_path(data, "negclip", "00001").unlink()
    with pytest.raises(FsckitError, match=r"negclip/00001.parquet: missing; run 'fscdata verify"):
        open_dataset(data, STYLES)


def test_damaged_files(server: S3Server, local: Path) -> None:
    data = data_path("s3://bucket/damaged")
    put(local, data, "*.*")
    tar = data / "shards" / "00001.tar"
    tar.write_bytes(tar.read_bytes()[:5_000])
    with pytest.raises(FsckitError, match=r"s3://bucket/damaged/shards/00001.tar: the tar is dam"):
        index_tar(tar)
    with pytest.raises(FsckitError, match=r"samples/00001.parquet: made from 00001.tar with"):
        open_dataset(data, STYLES)
    report = make_negatives(data, SETTINGS)
    assert list(report.failed) == ["00001.tar"]
    assert "the tar is damaged" in report.failed["00001.tar"]
    table = samples_path(data, "00000")
    table.write_bytes(table.read_bytes()[:-9])
    with pytest.raises(FsckitError, match=r"samples/00000.parquet: not a Parquet file"):
        connect(data)


def test_no_permission(server: S3Server, local: Path) -> None:
    data = data_path("s3://forbidden/set")
    table = samples_path(local, "00000")
    for use in (
        lambda: shard_paths(data),
        lambda: connect(data),
        lambda: index_tar(data / "shards" / "00000.tar"),
        lambda: read_metadata(samples_path(data, "00000")),
    ):
        with pytest.raises(FsckitError, match=r"s3://forbidden/.* cannot be read \((Access|Forb)"):
            use()
    with pytest.raises(FsckitError, match=r"00000.parquet: cannot be written \(Access Denied\); c"):
        write_parquet(samples_path(data, "00000"), read_table(table), read_metadata(table))


def test_permission_lost_during_a_query(
    server: S3Server, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB's error contains a Python traceback, which must not be shown."""
    data = data_path("s3://bucket/closing")
    put(local, data, "*.parquet")
    with connect(data) as connection:
        monkeypatch.setattr(server, "forbidden", "bucket")
        with (
            pytest.raises(FsckitError, match=r"^DuckDB: PermissionError: Access Denied$"),
            duckdb_errors(),
        ):
            connection.execute("SELECT caption FROM samples")


def test_an_unreachable_server(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    data = UPath("s3://bucket/set", skip_instance_cache=True)
    with pytest.raises(FsckitError, match=r"s3://bucket/set: cannot be read \(Could not connect"):
        shard_paths(data)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    data = UPath("s3://bucket/set", skip_instance_cache=True)
    with pytest.raises(FsckitError, match=r"cannot be read \(Unable to locate credentials\); che"):
        index_tar(data / "00000.tar")
