"""Probes and downloads the rows of a URL table, and retries temporary failures."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fscdata.base.errors import FsckitError, first_line
from fscdata.base.locks import folder_lock
from fscdata.base.paths import access
from fscdata.download.img2dataset.failures import is_temporary
from fscdata.download.img2dataset.options import (
    Job,
    TableOptions,
    free_arguments,
    open_job,
    read_job,
)
from fscdata.download.img2dataset.process import ToolRun
from fscdata.download.img2dataset.shards import publish, read_outcomes, shard_names
from fscdata.download.img2dataset.table import BATCH, ROW, TableReader, write_table

# Called with the rows done and the total.
Report = Callable[[int, int], None]

PROBED_ROWS = 200


@dataclass(frozen=True)
class Probe:
    """The outcomes of `rows` rows, drawn from the `table_rows` usable ones."""

    table_rows: int
    rows: int
    outcomes: dict[str, int]  # rows by "success" or the reason of the failure, most frequent first
    bytes: int

    @property
    def success_rate(self) -> float:
        return self.outcomes["success"] / self.rows

    @property
    def expected_samples(self) -> int:
        return round(self.table_rows * self.success_rate)

    @property
    def expected_bytes(self) -> int:
        return round(self.table_rows / self.rows * self.bytes)


def probe_rows(
    table: Sequence[Path],
    folder: Path,
    options: TableOptions,
    rows: int = PROBED_ROWS,
    seed: int = 0,
) -> Probe:
    """Download a random sample of a table's rows, without keeping the images.

    Args:
        table: its files.
        folder: for temporary files, which img2dataset's workers on other machines must see; the log
            `probe.log` is kept.
        options: as for the download.
        rows: how many to draw.
        seed: random seed of the draw.

    Raises:
        FsckitError: as `download_rows`, or no row is usable.
    """
    reader = TableReader(table, options.table_columns())
    drawn, table_rows = _draw(reader.batches(), rows, seed)
    if not table_rows:
        raise FsckitError(f"{table[0]}: no row can be downloaded")
    with tempfile.TemporaryDirectory(prefix="probe-", dir=folder) as name:
        place = Path(name)
        write_table(place / "table.parquet", iter(drawn.to_batches()))
        run = ToolRun(
            place / "table.parquet",
            drawn.num_rows,
            place / "working",
            folder / "probe.log",
            options.arguments() | {"number_sample_per_shard": rows},  # one shard
        )
        run.finish(lambda done, total: None)
        outcomes = read_outcomes(run.working)
    counts = Counter({"success": outcomes.successes} | outcomes.reasons)
    return Probe(table_rows, drawn.num_rows, dict(counts.most_common()), outcomes.bytes)


def download_rows(
    table: Sequence[Path], folder: Path, options: TableOptions, report: Report
) -> None:
    """Download a table's images into `folder/shards`; resumes after a kill.

    Args:
        table: its files.
        folder: the data set's.
        options: how to read the table and store the images.
        report: called with the rows done and the total.

    Raises:
        FsckitError: img2dataset is missing, fails or omits a shard; the table cannot be read; the
            folder was started with another table or other options.
    """
    urls, shards = folder / "urls", folder / "shards"
    with access(folder, "written"):
        urls.mkdir(parents=True, exist_ok=True)
    with folder_lock(urls):
        job = open_job(table, folder, options)
        if shards.exists():
            return
        run = ToolRun(
            urls / "table.parquet",
            job.rows,
            urls / "working",
            urls / "img2dataset.log",
            job.arguments | free_arguments(options),
        )
        run.finish(report)
        # All at once: readers would mistake some of the shards for the whole data set.
        with access(shards, "written"):
            run.working.rename(shards)


def retry_rows(folder: Path, times: int, report: Report) -> None:
    """Retry the rows that failed temporarily: a timeout, 429 or 5xx, DNS, a lost connection.

    Their images go into new shards, numbered after the existing ones, so keys stay unique; a shard
    without images is not kept. Each shard's Parquet records the outcomes of its rows, so a row that
    succeeded is not retried, even after a kill. A round without new images is the last.

    Args:
        folder: the data set's.
        times: maximum number of rounds.
        report: as for `download_rows`, in each round.

    Raises:
        FsckitError: the folder is not a finished data set of a URL table; as `download_rows`.
    """
    job, shards = read_job(folder), folder / "shards"
    if not shards.is_dir():
        raise FsckitError(f"{folder}: the download is not finished; rerun it first")
    with folder_lock(folder / "urls"):
        _publish_working(folder)  # what a killed retry left
        outcomes = read_outcomes(shards)
        for _ in range(times):
            pending = [row for row, why in outcomes.failures.items() if is_temporary(why)]
            if not pending:
                return
            _retry(folder, job, pending, report)
            before, outcomes = outcomes, read_outcomes(shards)
            if outcomes.successes == before.successes:
                return


def _retry(folder: Path, job: Job, rows: list[int], report: Report) -> None:
    """Download these rows into new shards."""
    urls, shards = folder / "urls", folder / "shards"
    table = urls / "retry.parquet"
    run = ToolRun(
        table,
        write_table(table, _select(urls / "table.parquet", rows)),
        urls / "working",
        urls / "img2dataset.log",
        job.arguments,
        first=int(shard_names(shards)[-1]) + 1,
    )
    try:
        run.finish(report)
    finally:  # after an error or a signal, finished shards are kept
        _publish_working(folder)
        table.unlink()


def _publish_working(folder: Path) -> None:
    """Move the complete shards out of the working folder, and remove it."""
    working = folder / "urls" / "working"
    with access(folder, "written"):
        publish(working, folder / "shards")
        shutil.rmtree(working, ignore_errors=True)


def _select(table: Path, rows: list[int]) -> Iterator[pa.RecordBatch]:
    wanted = pa.array(rows, pa.int64())
    try:
        with pq.ParquetFile(table) as parquet:
            for batch in parquet.iter_batches(BATCH):
                yield batch.filter(pc.is_in(batch.column(ROW), value_set=wanted))
    except (OSError, pa.ArrowException) as error:
        raise FsckitError(
            f"{table}: cannot be read ({first_line(error)}); restore it, or download into another "
            f"folder"
        ) from None


def _draw(batches: Iterator[pa.RecordBatch], rows: int, seed: int) -> tuple[pa.Table, int]:
    """Rows drawn uniformly without replacement, in the table's order, and the table's size.

    Each row gets a random number and the smallest are kept, so that one pass over the table is
    enough.
    """
    generator = np.random.default_rng(seed)
    kept: pa.Table | None = None
    numbers = np.empty(0)
    seen = 0
    for batch in batches:
        part = pa.Table.from_batches([batch])
        kept = part if kept is None else pa.concat_tables([kept, part])
        numbers = np.concatenate([numbers, generator.random(batch.num_rows)])
        chosen = np.sort(np.argsort(numbers, kind="stable")[:rows])
        kept, numbers = kept.take(chosen), numbers[chosen]
        seen += batch.num_rows
    return (pa.table({}) if kept is None else kept), seen
