"""The rows of a URL table whose error can pass, once more, into new shards."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fscdata.base.errors import FsckitError
from fscdata.base.locks import folder_lock
from fscdata.base.paths import access
from fscdata.download.urls import Plan, UrlReport, read_plan
from fscdata.download.urls.failures import can_pass
from fscdata.download.urls.run import Progress, Run
from fscdata.download.urls.shards import Outcomes, publish, read_outcomes, shard_names
from fscdata.download.urls.table import BATCH, ROW, write_table


def retry(folder: Path, times: int = 1, progress: Progress = lambda done, rows: None) -> UrlReport:
    """Download again what failed by a time-out, a 429 or 5xx, DNS or a lost connection.

    The pictures go into new shards, numbered on from those that are there, so no key comes twice; a
    shard without a picture is not kept. The Parquet of each shard says what became of its rows;
    hence a row that was brought back is not asked for again, nor one of a retry that was killed.
    There are so many rounds, or fewer: none after one that brings nothing. The report is of the
    rows that could be asked for at the start: `successes` of them are there now.

    Raises:
        FsckitError: the folder is no finished data set of a URL table; as `urls.download_table`.
    """
    start = time.monotonic()
    plan, shards = read_plan(folder), folder / "shards"
    if not shards.is_dir():
        raise FsckitError(f"{folder}: its download is not finished; run it again first")
    with folder_lock(folder / "urls"):
        _go_on(folder)
        before = read_outcomes(shards, shard_names(shards))
        after = before
        for _ in range(times):
            pending = _pending(after)
            if not pending:
                break
            _fetch(folder, plan, pending, progress)
            last, after = after, read_outcomes(shards, shard_names(shards))
            if after.successes == last.successes:
                break
    return UrlReport(
        after.successes - before.successes,
        dict(Counter(after.failures[row] for row in _pending(before) if row in after.failures)),
        {},
        after.shards - before.shards,
        after.bytes - before.bytes,
        time.monotonic() - start,
    )


def _pending(outcomes: Outcomes) -> list[int]:
    return [row for row, reason in outcomes.failures.items() if can_pass(reason)]


def _fetch(folder: Path, plan: Plan, rows: list[int], progress: Progress) -> None:
    """Download these rows into new shards."""
    urls, shards = folder / "urls", folder / "shards"
    table = urls / "retry.parquet"
    count = write_table(table, _rows(urls / "table.parquet", rows))
    run = Run(
        table,
        count,
        urls / "working",
        urls / "img2dataset.log",
        plan.arguments,
        first=int(shard_names(shards)[-1]) + 1,
    )
    try:
        run.fetch(progress)
    finally:
        _go_on(folder)
        table.unlink()


def _go_on(folder: Path) -> None:
    """Take over the whole shards of the working folder, and remove it."""
    working = folder / "urls" / "working"
    with access(folder, "written"):
        publish(working, folder / "shards")
        shutil.rmtree(working, ignore_errors=True)


def _rows(table: Path, rows: list[int]) -> Iterator[pa.RecordBatch]:
    wanted = pa.array(rows, pa.int64())
    try:
        with pq.ParquetFile(table) as parquet:
            for batch in parquet.iter_batches(BATCH):
                yield batch.filter(pc.is_in(batch.column(ROW), value_set=wanted))
    except (OSError, pa.ArrowException) as error:
        raise FsckitError(
            f"{table}: cannot be read ({error}); bring it back, or download into another folder"
        ) from None
