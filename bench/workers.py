"""Speed of two workers relative to one, from the first captions to the last commit.

    python bench/workers.py

The fsc-clip recipe with K = 5 over 24 shards of Flickr8k's 40,455 captions if shared/data exists
beside the checkout, else of the tests' captions. The clock starts when the workers report their
first captions, after the model has loaded. One and two workers alternate; the last line is the
ratio of total times. The script also times a command with a single caption, all of it start-up,
and a script that loads the model with spaCy and parses that caption.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import common  # noqa: F401  (finds tests/support)
from fscdata.executors import Executor, Outcome, create_executor
from fscdata.executors.base import ItemTick
from fscdata.negatives.model import installed_model
from fscdata.steps.expected import Settings
from fscdata.steps.negatives import make_negatives
from fscdata.steps.shard import CHUNK, MakeShard
from support.captions import FLICKR_CAPTIONS, ODD, TEMPLATES
from support.tars import write_shards

SHARDS, ROUNDS = 24, 3


def seconds_per_caption(data: Path, workers: int, seed: int) -> float:
    """The pace of a run after its first captions, excluding the workers' start."""
    executor = Watched(create_executor("local", workers), workers * CHUNK)
    settings = Settings("fsc-clip", variants=5, seed=seed)  # another seed remakes every table
    report = make_negatives(data, settings, overwrite=True, executor=executor)
    end = time.perf_counter()
    assert executor.first is not None
    start, done = executor.first
    return (end - start) / (report.captions - done)


class Watched:
    """An executor that records when its items have made `captions` captions in all."""

    def __init__(self, executor: Executor, captions: int) -> None:
        self.first: tuple[float, int] | None = None  # the time, and the captions made by then
        self._executor = executor
        self._captions = captions

    def run(self, step: MakeShard, items: list[Path], tick: ItemTick) -> Iterator[Outcome]:
        """As `Executor.run`."""
        made: dict[int, int] = {}

        def watch(index: int, done: int, of: int) -> None:
            made[index] = done
            total = sum(made.values())
            if self.first is None and total >= self._captions:
                self.first = (time.perf_counter(), total)
            tick(index, done, of)

        return self._executor.run(step, items, watch)


def command_seconds(*command: str) -> float:
    """Wall time, the best of three; "SEED" in a command becomes a new number each time."""
    times = []
    for seed in range(3):
        arguments = [word.replace("SEED", str(seed)) for word in command]
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return min(times)


def start_up() -> None:
    """Print how long one caption takes, ours and spaCy's."""
    load = (
        f"import spacy; nlp = spacy.load({installed_model().model_name!r}, "
        f"exclude=['ner', 'lemmatizer']); nlp('A dog runs.')"
    )
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder), [[("0", ["A dog runs."])]])
        make = ("-m", "fscdata", "make-negatives", folder, "--recipe", "fsc-clip")
        make += ("--seed", "SEED", "--overwrite")
        ours, theirs = command_seconds(*make), command_seconds("-c", load)
    print(f"start-up: {ours:.1f} s, a script with spaCy alone {theirs:.1f} s", flush=True)


def main() -> None:
    """Run the benchmark."""
    start_up()
    captions = [*TEMPLATES, *ODD] * 20
    if FLICKR_CAPTIONS.is_file():
        captions = [line.strip() for line in FLICKR_CAPTIONS.read_text().splitlines()]
    samples = [(f"{i:06d}", captions[i : i + 5]) for i in range(0, len(captions), 5)]
    times: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder), [samples[i::SHARDS] for i in range(SHARDS)])
        for seed in range(ROUNDS):
            for workers, values in times.items():
                values.append(seconds_per_caption(Path(folder), workers, 2 * seed + workers))
                print(f"{workers} workers: {1 / values[-1]:.0f} captions/s", flush=True)
    print(f"two-workers-vs-one {sum(times[1]) / sum(times[2]):.2f}")


if __name__ == "__main__":
    main()
