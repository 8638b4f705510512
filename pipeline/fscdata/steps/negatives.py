"""make-negatives: the samples and negatives tables of every shard, on any executor."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fscdata.base.errors import FsckitError
from fscdata.base.locks import folder_lock
from fscdata.base.paths import DataPath
from fscdata.contract import check_unique, read_table, remove_temporary, samples_path, shard_paths
from fscdata.executors import Executor, Outcome, create_executor
from fscdata.steps.plan import Plan, Settings
from fscdata.steps.shard import MakeShard, ShardReport


@dataclass
class Report:
    """What a run did; `failed` names the shards that could not be made, and why."""

    shards: int = 0  # made
    skipped: int = 0  # there already
    retried: int = 0  # made or skipped at a second attempt
    captions: int = 0
    negatives: Counter[str] = field(default_factory=Counter)
    without: Counter[tuple[str, str]] = field(default_factory=Counter)  # by style and reason
    left_out: Counter[str] = field(default_factory=Counter)
    written: int = 0
    seconds: float = 0.0
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        """Captions a second."""
        return self.captions / self.seconds if self.seconds else 0.0

    def add(self, shard: ShardReport) -> None:
        """Count a shard in."""
        self.shards += shard.made
        self.skipped += not shard.made
        self.captions += shard.captions
        self.negatives.update(shard.negatives)
        self.without.update(shard.without)
        self.left_out.update(shard.left_out)
        self.written += shard.written

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        without: dict[str, dict[str, int]] = {}
        for (style, reason), count in self.without.items():
            without.setdefault(style, {})[reason] = count
        return vars(self) | {"without": without, "captions_per_second": self.per_second}


@dataclass(frozen=True)
class Progress:
    """How far a run is: shards in all and ended, and what the ended and the running ones count."""

    shards: int
    report: Report
    running: float  # shards in the works, as the sum of their parts done
    captions: int  # made, those of the running shards with them
    seconds: float

    @property
    def ended(self) -> int:
        """Shards made, skipped and failed."""
        return self.report.shards + self.report.skipped + len(self.report.failed)

    @property
    def per_second(self) -> float:
        """Captions a second."""
        return self.captions / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """By the shards made so far; None while there is nothing to go by."""
        made = self.report.shards + self.running
        left = self.shards - self.ended - self.running
        return self.seconds * left / made if made else None


def make_negatives(
    data: DataPath,
    settings: Settings,
    overwrite: bool = False,
    limit: int | None = None,
    executor: Executor | None = None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Report:
    """Make the tables that a data set lacks, of at most `limit` shards.

    Tables made from a tar that has changed since are made again; with `overwrite` those that were
    made otherwise, too. A shard that fails is reported and the others are made; so is one with a
    key of another. Without an executor the work is done in this process.

    Raises:
        FsckitError: no such recipe, no shards, tables of another provenance without `overwrite`,
            tables that belong to no tar, or another run at work on the folder.
    """
    data, settings = _from_root(data, settings)
    plan = Plan(data, settings)
    tars = shard_paths(data)
    executor = executor or create_executor("local", workers=0)
    with folder_lock(data):
        remove_temporary(data)
        footers = plan.footers(tars)
        plan.refuse_others(footers, overwrite)
        if limit is not None:
            tars = plan.unfinished(tars, footers)
        run = _Run(tars, limit, progress)
        step = MakeShard(data, settings, plan.provenances)
        while to_make := run.next_tars():
            with closing(executor.run(step, to_make, run.tick)) as outcomes:
                for outcome in outcomes:
                    run.end(outcome)
        remove_temporary(data)  # of a worker that was killed
        run.find_keys_twice(data)
    return run.report


def _from_root(data: DataPath, settings: Settings) -> tuple[DataPath, Settings]:
    """Local folders as absolute paths: a cluster's workers run in other folders."""
    source = settings.captions
    if source.folder is not None:
        source = replace(source, folder=source.folder.absolute())
    return data.absolute() if isinstance(data, Path) else data, replace(settings, captions=source)


class _Run:
    """Keeps count of a run and tells of it."""

    def __init__(
        self,
        tars: list[DataPath],
        limit: int | None,
        progress: Callable[[Progress], None],
    ) -> None:
        self.report = Report()
        self._tars = tars
        self._limit = len(tars) if limit is None else limit
        self._offset = self._handed_out = 0  # of the tars at work, and behind them
        self._progress = progress
        self._start = time.perf_counter()
        self._running: dict[int, tuple[int, int]] = {}  # shard → captions done, captions in all
        self._key_hashes: dict[int, NDArray[np.uint64]] = {}
        self._tell()

    def next_tars(self) -> list[DataPath]:
        """The tars to make next: once all, or as many as the limit leaves; failed ones are not
        counted."""
        self._offset = self._handed_out
        self._handed_out = self._offset + max(0, self._limit - self.report.shards)
        return self._tars[self._offset : self._handed_out]

    def tick(self, index: int, done: int, of: int) -> None:
        """A shard in the works is so far."""
        self._running[index] = (done, of)
        self._tell()

    def end(self, outcome: Outcome[ShardReport]) -> None:
        """A shard is made, or it failed for a reason."""
        self._running.pop(outcome.index, None)
        index = self._offset + outcome.index
        if outcome.result is None:
            self.report.failed[self._tars[index].name] = outcome.reason or "no reason given"
        else:
            self.report.add(outcome.result)
            self.report.retried += outcome.attempts > 1
            self._key_hashes[index] = outcome.result.key_hashes
        self._tell()

    def find_keys_twice(self, data: DataPath) -> None:
        """Report the last of the tars that share a key as failed."""
        if not self._key_hashes:
            return
        hashes = np.concatenate(list(self._key_hashes.values()))
        hashes.sort()
        twice = hashes[1:][hashes[1:] == hashes[:-1]]
        if not len(twice):
            return
        # Two keys may share a hash; the tables tell.
        suspects = [i for i, own in sorted(self._key_hashes.items()) if np.isin(own, twice).any()]
        paths = [samples_path(data, self._tars[i].stem) for i in suspects]
        try:
            check_unique(data, [read_table(path, ["key", "caption_index"]) for path in paths])
        except FsckitError as error:
            self.report.failed[self._tars[suspects[-1]].name] = str(error)

    def _tell(self) -> None:
        self.report.seconds = time.perf_counter() - self._start
        self._progress(
            Progress(
                shards=min(self._limit + len(self.report.failed), len(self._tars)),
                report=self.report,
                running=sum(done / of for done, of in self._running.values() if of),
                captions=self.report.captions + sum(done for done, _ in self._running.values()),
                seconds=self.report.seconds,
            )
        )
