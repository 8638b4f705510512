"""A dry run of make-negatives: what it would make and how long that would take here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fscdata.base.errors import FsckitError
from fscdata.base.paths import DataPath
from fscdata.base.progress import SILENT, Reporter
from fscdata.contract import index_tar, shard_paths
from fscdata.executors import create_executor
from fscdata.steps.expected import ExpectedTables, Settings
from fscdata.steps.shard import Item, chunks, items

SAMPLE_SECONDS = 1.0
_WARM_UP = 256  # captions to load the model and fill the caches before timing starts
_STEP = 64
_MAX_TRIED = 20_000  # captions


@dataclass(frozen=True)
class Estimate:
    """What a run would make.

    Attributes:
        shards, skipped: shards to make, and shards whose tables exist.
        captions: captions in the shards to make.
        tables: the tables of each shard.
        per_second: captions per second and process on this machine; None if there are no captions.
        failed: the reason for each tar that cannot be read.
    """

    shards: int
    skipped: int
    captions: int
    tables: list[str]
    per_second: float | None
    failed: dict[str, str] = field(default_factory=dict)


def estimate(
    data: DataPath,
    settings: Settings,
    overwrite: bool = False,
    limit: int | None = None,
    reporter: Reporter = SILENT,
) -> Estimate:
    """Count the captions of the shards to make, and time the first ones; writes nothing.

    Raises:
        FsckitError: see `make_negatives`.
    """
    expected = ExpectedTables(data, settings)
    tars = shard_paths(data)
    footers = expected.footers(tars)
    expected.refuse_conflicts(footers, overwrite)
    unfinished = expected.unfinished(tars, footers)
    to_make = unfinished[:limit]
    progress = reporter.counter("reading tars", "tars")
    captions = 0
    failed: dict[str, str] = {}
    tried: list[Item] = []
    for done, tar in enumerate(to_make):
        progress(done, len(to_make))
        try:
            samples = index_tar(tar, settings.captions).samples
        except FsckitError as error:
            failed[tar.name] = str(error)
            continue
        captions += sum(len(sample.captions) for sample in samples)
        if len(tried) < _MAX_TRIED:
            tried += items(samples)
    return Estimate(
        shards=len(to_make) - len(failed),
        skipped=len(tars) - len(unfinished),
        captions=captions,
        tables=["samples", *(f"negatives/{name}" for name in expected.styles)],
        per_second=_rate(MeasureRate(data, settings, tried)) if tried else None,
        failed=failed,
    )


@dataclass(frozen=True)
class MeasureRate:
    """A step that measures how many captions per second its process handles."""

    data: DataPath
    settings: Settings
    captions: list[Item]

    def __call__(self, seconds: float, tick: Callable[[int, int], None]) -> float:
        """Make the captions' negatives, repeatedly if needed, for `seconds`."""
        expected = ExpectedTables(self.data, self.settings)
        styles = list(expected.styles.values())
        list(chunks(expected, styles, self.captions[:_WARM_UP]))
        start = time.perf_counter()
        done = 0
        while True:
            rest = self.captions[_WARM_UP:] or self.captions
            for chunk in chunks(expected, styles, rest, _STEP):
                done += chunk.captions
                elapsed = time.perf_counter() - start
                if elapsed >= seconds:
                    return done / elapsed


def _rate(step: MeasureRate) -> float | None:
    """Measure in a worker, which is limited to one thread like the workers of a run."""
    (outcome,) = create_executor("local", 1).run(step, [SAMPLE_SECONDS])
    if outcome.reason is not None:
        raise FsckitError(f"cannot estimate the time: {outcome.reason}")
    return outcome.result
