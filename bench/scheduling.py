"""Cost of an executor per shard: 10,000 shards with almost no work, 1 % of which fail.

    python bench/scheduling.py

Half of the failing shards fail only at their first attempt and succeed at the second; the others
fail for good and are reported. Two workers. The clock runs from the first outcome to the last; the
engine's start is listed separately. The last line is Ray's time per shard relative to local
processes.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

from fscdata.executors import Tick, create_executor

SHARDS, FAILING, WORKERS = 10_000, 100, 2


@dataclass(frozen=True)
class EmptyShard:
    """A step that reports what an empty shard would; shard 0 of every 100 fails."""

    folder: str

    def __call__(self, shard: int, tick: Tick) -> dict[str, int]:
        if shard % FAILING == 0:
            tried = Path(self.folder, str(shard))
            if shard % (2 * FAILING) == 0 or not tried.exists():
                tried.touch()
                raise RuntimeError(f"injected into shard {shard:05d}")
        return {"shard": shard, "captions": 0, "written": 0}


def measure(name: str) -> float:
    """Run all shards on an executor, print its table row and return milliseconds per shard."""
    made = retried = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        first = 0.0
        for outcome in create_executor(name, WORKERS).run(EmptyShard(folder), range(SHARDS)):
            first = first or time.perf_counter()
            made += outcome.reason is None
            failed += outcome.reason is not None
            retried += outcome.reason is None and outcome.attempts > 1
        seconds = time.perf_counter() - first
    assert made + failed == SHARDS
    each = 1000 * seconds / (SHARDS - 1)
    print(
        f"{name:9}{first - started:9.1f}{1000 / each:12,.0f}{each:13.2f}"
        f"{made:9,}{retried:9,}{failed:9,}"
    )
    return each


def main() -> None:
    """Run the benchmark."""
    print("executor  start s    shards/s  ms/shard     made  retried   failed")
    local = measure("local")
    ray = measure("ray")
    print(f"scheduling-ray {ray / local:.2f}")


if __name__ == "__main__":
    # Import this script under its own name, so that workers can import the step.
    import scheduling

    scheduling.main()
