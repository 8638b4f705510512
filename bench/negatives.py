"""Speed of make-negatives relative to bare spaCy, in CPU time of one thread and one process.

    python bench/negatives.py

A is `nlp.pipe` of the same model without `ner` and `lemmatizer`, in batches of 256: the minimum
cost of parsing with stock spaCy. Ours is the whole fsc-clip recipe, from a tar to Parquet, with
token ids and edits. The captions are Flickr8k's 40,455 if shared/data exists beside the checkout,
otherwise the tests'. On each slice of the captions, A runs once, then ours with K = 5, then K = 1,
so caches are cold for all but K = 1. The last line is the ratio of total times, K = 5.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import spacy

import common  # noqa: F401  (finds tests/support)
from fscdata.negatives.parsing import load_parser
from fscdata.steps.expected import Settings
from fscdata.steps.negatives import make_negatives
from support.captions import FLICKR_CAPTIONS, ODD, TEMPLATES
from support.tars import write_shards

SLICES = 8


def seconds_of(work: Callable[[], object]) -> float:
    """CPU time."""
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    """Run the benchmark."""
    lines = [*TEMPLATES, *ODD]
    if FLICKR_CAPTIONS.is_file():
        lines = FLICKR_CAPTIONS.read_text().splitlines()
    captions = [line.strip() for line in lines]
    parser = load_parser()
    nlp = spacy.load(parser.info.model_name, exclude=["ner", "lemmatizer"])
    size = -(-len(captions) // SLICES)
    times: dict[str, list[float]] = {"A": [], "K = 5": [], "K = 1": []}
    for start in range(0, len(captions), size):
        part = captions[start : start + size]
        times["A"].append(seconds_of(partial(deque, nlp.pipe(part, batch_size=256), maxlen=0)))
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder)
            samples = [(f"{i:06d}", part[i : i + 5]) for i in range(0, len(part), 5)]
            write_shards(data, [samples])
            for k in (5, 1):
                settings = Settings("fsc-clip", variants=k)
                make = partial(make_negatives, data, settings, overwrite=True)
                times[f"K = {k}"].append(seconds_of(make))
    print(f"{len(captions):,} captions in {SLICES} slices, captions per second of CPU time")
    whole = sum(times["A"])
    for name, values in times.items():
        slices = sorted(a / ours for a, ours in zip(times["A"], values, strict=True))
        print(
            f"{name:6} {len(captions) / sum(values):7.0f}   {whole / sum(values):.2f} × A   "
            f"(slices: {slices[0]:.2f} to {slices[-1]:.2f})"
        )
    print(f"negatives-vs-spacy {whole / sum(times['K = 5']):.2f}")


if __name__ == "__main__":
    main()
