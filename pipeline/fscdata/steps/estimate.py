"""What make-negatives would do, and how long it would take here; nothing is written."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from fscdata.base.errors import FsckitError
from fscdata.base.paths import DataPath
from fscdata.contract import index_tar, shard_paths
from fscdata.executors import create_executor
from fscdata.steps.plan import Plan, Settings
from fscdata.steps.shard import Item, chunks, items

SAMPLE_SECONDS = 1.0
_WARM_UP = 256  # captions; the first of them load the model and fill the caches
_STEP = 64


@dataclass(frozen=True)
class Estimate:
    """What is to be made, and the rate of one process on this machine in captions a second.

    `per_second` is None where there is no caption to try.
    """

    shards: int
    skipped: int
    captions: int
    tables: list[str]  # of each shard
    per_second: float | None
    failed: dict[str, str] = field(default_factory=dict)


def estimate(
    data: DataPath,
    settings: Settings,
    overwrite: bool = False,
    limit: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Estimate:
    """Count the captions of the shards to make, and try the first of them for a second.

    Raises:
        FsckitError: as `make_negatives`.
    """
    plan = Plan(data, settings)
    tars = shard_paths(data)
    footers = plan.footers(tars)
    plan.refuse_others(footers, overwrite)
    unfinished = plan.unfinished(tars, footers)
    wanted = unfinished[:limit]
    captions = 0
    failed: dict[str, str] = {}
    tried: list[Item] = []
    for done, tar in enumerate(wanted):
        progress(done, len(wanted))
        try:
            samples = index_tar(tar, settings.captions).samples
        except FsckitError as error:
            failed[tar.name] = str(error)
            continue
        captions += sum(len(sample.captions) for sample in samples)
        if len(tried) < 20_000:
            tried += items(samples)
    return Estimate(
        shards=len(wanted) - len(failed),
        skipped=len(tars) - len(unfinished),
        captions=captions,
        tables=["samples", *(f"negatives/{name}" for name in plan.styles)],
        per_second=_rate(MeasureRate(data, settings, tried)) if tried else None,
        failed=failed,
    )


@dataclass(frozen=True)
class MeasureRate:
    """A step that tells how many captions a second its process makes."""

    data: DataPath
    settings: Settings
    captions: list[Item]

    def __call__(self, seconds: float, tick: Callable[[int, int], None]) -> float:
        """The captions are tried as many times over as `seconds` need."""
        plan = Plan(self.data, self.settings)
        styles = list(plan.styles.values())
        list(chunks(plan, styles, self.captions[:_WARM_UP], Counter()))
        start = time.perf_counter()
        done = 0
        while True:
            rest = self.captions[_WARM_UP:] or self.captions
            for chunk in chunks(plan, styles, rest, Counter(), _STEP):
                done += chunk.captions
                spent = time.perf_counter() - start
                if spent >= seconds:
                    return done / spent


def _rate(step: MeasureRate) -> float | None:
    """In a worker of its own, which has one thread for its sums as those of a run have."""
    (outcome,) = create_executor("local", 1).run(step, [SAMPLE_SECONDS])
    if outcome.reason is not None:
        raise FsckitError(f"the captions cannot be tried: {outcome.reason}")
    return outcome.result
