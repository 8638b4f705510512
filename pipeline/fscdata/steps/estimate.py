"""What make-negatives would do, and how long it would take here; nothing is written."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from fscdata.contract import DataPath, FsckitError, index_tar, shard_paths
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
    wanted = (tars if overwrite else plan.unfinished(tars, footers))[:limit]
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
        skipped=len(tars) - len(wanted),
        captions=captions,
        tables=["samples", *(f"negatives/{name}" for name in plan.styles)],
        per_second=_rate(plan, tried) if tried else None,
        failed=failed,
    )


def _rate(plan: Plan, captions: list[Item]) -> float:
    """Captions a second, of captions as many times over as a second needs."""
    styles = list(plan.styles.values())
    list(chunks(plan, styles, captions[:_WARM_UP], Counter()))
    start = time.perf_counter()
    done = 0
    while (seconds := time.perf_counter() - start) < SAMPLE_SECONDS:
        for chunk in chunks(plan, styles, captions[_WARM_UP:] or captions, Counter(), _STEP):
            done += chunk.captions
            seconds = time.perf_counter() - start
            if seconds >= SAMPLE_SECONDS:
                break
    return done / seconds
