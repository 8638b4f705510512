"""A table of URLs → shards of pictures and captions."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fscdata.base.locks import folder_lock
from fscdata.base.paths import access
from fscdata.download.urls.options import UrlOptions
from fscdata.download.urls.plan import FREE, make_plan
from fscdata.download.urls.run import Progress, Run
from fscdata.download.urls.shards import Outcomes, read_outcomes, shard_names


@dataclass(frozen=True)
class UrlReport:
    """What became of a table's rows: `successes` are samples in shards, `failures` counts by
    reason the rows whose picture did not come, `skipped` those that were not asked for."""

    successes: int
    failures: dict[str, int]
    skipped: dict[str, int]
    shards: int
    bytes: int
    seconds: float

    @classmethod
    def of(cls, outcomes: Outcomes, skipped: dict[str, int], seconds: float) -> UrlReport:
        reasons = dict(Counter(outcomes.failures.values()).most_common())
        return cls(outcomes.successes, reasons, skipped, outcomes.shards, outcomes.bytes, seconds)


def download_table(
    table: Sequence[Path],
    folder: Path,
    options: UrlOptions,
    progress: Progress = lambda done, rows: None,
) -> UrlReport:
    """Fetch a table's pictures into `folder/shards`; what a killed run left is gone on with.

    `table` are its files. Done already, it only reports.

    Raises:
        FsckitError: img2dataset is missing or fails, or leaves a shard out; the table cannot be
            read; the folder was begun with another table or other options.
    """
    start = time.monotonic()
    urls, shards = folder / "urls", folder / "shards"
    with access(folder, "written"):
        urls.mkdir(parents=True, exist_ok=True)
    with folder_lock(urls):
        plan = make_plan(table, folder, options)
        if not shards.exists():
            free = {name: v for name, v in options.arguments().items() if name in FREE}
            log = urls / "img2dataset.log"
            arguments = plan.arguments | free
            run = Run(urls / "table.parquet", plan.rows, urls / "working", log, arguments)
            run.fetch(progress)
            with access(shards, "written"):
                run.working.rename(shards)
    outcomes = read_outcomes(shards, shard_names(shards))
    return UrlReport.of(outcomes, plan.skipped, time.monotonic() - start)
