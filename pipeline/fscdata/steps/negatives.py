"""make-negatives: makes the samples and negatives tables of all shards, on any executor."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fscdata.base.errors import FsckitError
from fscdata.base.locks import folder_lock
from fscdata.base.paths import DataPath
from fscdata.base.progress import SILENT, Progress, Reporter
from fscdata.contract import (
    SAMPLES,
    check_unique,
    read_table,
    remove_temporary,
    samples_path,
    shard_paths,
)
from fscdata.executors import Executor, Outcome, create_executor
from fscdata.recipes import with_absolute_paths
from fscdata.steps.card import write_card
from fscdata.steps.expected import ExpectedTables, Settings
from fscdata.steps.shard import MakeShard, ShardReport


@dataclass
class NegativesReport:
    """What a run did.

    Attributes:
        shards, skipped: shards made, and shards whose tables existed already.
        retried: shards of either kind that succeeded on the second attempt.
        captions, negatives: how many were made, negatives by style.
        without: captions without a negative, by (style, reason).
        left_out: samples and captions left out of the samples tables, by reason.
        written: bytes written.
        failed: the reason for each shard that could not be made.
        empty: styles that have no negative for any caption of the data set.
    """

    shards: int = 0
    skipped: int = 0
    retried: int = 0
    captions: int = 0
    negatives: Counter[str] = field(default_factory=Counter)
    without: Counter[tuple[str, str]] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    written: int = 0
    seconds: float = 0.0
    failed: dict[str, str] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Captions per second."""
        return self.captions / self.seconds if self.seconds else 0.0

    def add(self, shard: ShardReport) -> None:
        """Add the counts of a shard."""
        self.shards += shard.made
        self.skipped += not shard.made
        self.captions += shard.captions
        self.negatives.update(shard.negatives)
        self.without.update(shard.without)
        self.left_out.update(shard.left_out)
        self.written += shard.written

    def record(self) -> dict[str, Any]:
        """The report as a JSON object."""
        without: dict[str, dict[str, int]] = {}
        for (style, reason), count in self.without.items():
            without.setdefault(style, {})[reason] = count
        return vars(self) | {"without": without, "captions_per_second": self.per_second}


def make_negatives(
    data: DataPath,
    settings: Settings,
    overwrite: bool = False,
    limit: int | None = None,
    executor: Executor | None = None,
    reporter: Reporter = SILENT,
) -> NegativesReport:
    """Make a data set's missing tables.

    Tables of a tar that has changed are remade. A shard that fails, or that shares a key with
    another shard, is reported as failed; the other shards are made.

    Args:
        data: the data set's folder.
        settings: what to make.
        overwrite: also remake tables that were made with other settings.
        limit: the maximum number of shards to make. A limit on captions would leave partial
            tables, which every reader would have to tell from complete ones.
        executor: where to run; by default in this process.
        reporter: receives the progress.

    Raises:
        FsckitError: unknown recipe, no shards, tables of another provenance without `overwrite`,
            tables without a tar, or a folder that another process is using.
    """
    data, settings = _absolute(data, settings)
    expected = ExpectedTables(data, settings)
    tars = shard_paths(data)
    executor = executor or create_executor("local", workers=0)
    with folder_lock(data):
        remove_temporary(data)
        footers = expected.footers(tars)
        expected.refuse_conflicts(footers, overwrite)
        if limit is not None:
            tars = expected.unfinished(tars, footers)
        run = _Run(tars, limit, reporter)
        step = MakeShard(data, settings, expected.provenances)
        while batch := run.next_tars():
            with closing(executor.run(step, batch, run.tick)) as outcomes:
                for outcome in outcomes:
                    run.add(outcome)
        remove_temporary(data)  # a killed worker leaves its unfinished file
        run.find_shared_keys(data)
        if limit is None and not run.report.failed:
            run.report.empty = run.empty_styles(list(expected.styles))
        write_card(data, run.report.empty)
    return run.report


def _absolute(data: DataPath, settings: Settings) -> tuple[DataPath, Settings]:
    """Make local paths absolute: a cluster's workers have other working directories."""
    settings = replace(settings, recipe=with_absolute_paths(settings.recipe))
    source = settings.captions
    if source.folder is not None:
        source = replace(source, folder=source.folder.absolute())
    return data.absolute() if isinstance(data, Path) else data, replace(settings, captions=source)


class _Run:
    """Counts the shards of a run and reports its progress."""

    def __init__(self, tars: list[DataPath], limit: int | None, reporter: Reporter) -> None:
        self.report = NegativesReport()
        self._tars = tars
        self._limit = len(tars) if limit is None else limit
        self._offset = self._end = 0  # the current batch is tars[offset:end]
        self._reporter = reporter
        self._start = time.perf_counter()
        self._running: dict[int, tuple[int, int]] = {}  # shard → captions done, total
        self._key_hashes: dict[int, NDArray[np.uint64]] = {}
        self._finished: Counter[str] = Counter()  # rows of tables that existed already, by name
        self._report_progress()

    def next_tars(self) -> list[DataPath]:
        """The next batch: all tars, or as many as the limit still allows.

        Failed shards do not count towards the limit, so another batch may follow.
        """
        self._offset = self._end
        self._end = self._offset + max(0, self._limit - self.report.shards)
        return self._tars[self._offset : self._end]

    def tick(self, index: int, done: int, of: int) -> None:
        """Record how many captions of a running shard are done."""
        self._running[index] = (done, of)
        self._report_progress()

    def add(self, outcome: Outcome[ShardReport]) -> None:
        """Count a shard that was made or failed."""
        self._running.pop(outcome.index, None)
        index = self._offset + outcome.index
        if outcome.result is None:
            self.report.failed[self._tars[index].name] = outcome.reason or "unknown reason"
        else:
            self.report.add(outcome.result)
            self.report.retried += outcome.attempts > 1
            self._key_hashes[index] = outcome.result.key_hashes
            self._finished.update(outcome.result.finished)
        self._report_progress()

    def empty_styles(self, styles: list[str]) -> list[str]:
        """The styles without a single negative, if there are captions."""
        if not self.report.captions and not self._finished[SAMPLES]:
            return []
        rows = self.report.negatives + self._finished
        return [style for style in styles if not rows[style]]

    def find_shared_keys(self, data: DataPath) -> None:
        """If tars share a key, report the last of them as failed."""
        if not self._key_hashes:
            return
        hashes = np.concatenate(list(self._key_hashes.values()))
        hashes.sort()
        repeated = hashes[1:][hashes[1:] == hashes[:-1]]
        if not len(repeated):
            return
        # Different keys may share a hash, so compare the keys themselves.
        suspects = [
            index for index, own in sorted(self._key_hashes.items()) if np.isin(own, repeated).any()
        ]
        paths = [samples_path(data, self._tars[i].stem) for i in suspects]
        try:
            check_unique(data, [read_table(path, ["key", "caption_index"]) for path in paths])
        except FsckitError as error:
            self.report.failed[self._tars[suspects[-1]].name] = str(error)

    def _report_progress(self) -> None:
        report = self.report
        report.seconds = time.perf_counter() - self._start
        shards = min(self._limit + len(report.failed), len(self._tars))
        ended = report.shards + report.skipped + len(report.failed)
        running = sum(done / of for done, of in self._running.values() if of)
        captions = report.captions + sum(done for done, _ in self._running.values())
        per_second = captions / report.seconds if report.seconds else 0.0
        detail = [
            f"{captions:,} captions",
            f"{per_second:,.0f}/s",
            f"{report.without.total():,} without a negative",
            f"{report.left_out.total():,} left out",
        ]
        if report.failed:
            detail.append(f"{len(report.failed):,} shards failed")
        # Skipped shards take no time, so only the shards made determine the pace.
        made = report.shards + running
        seconds_left = report.seconds * (shards - ended - running) / made if made else None
        self._reporter.progress(
            Progress("making negatives", ended, shards, "shards", ", ".join(detail), seconds_left)
        )
