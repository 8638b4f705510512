"""How fast is make-negatives beside bare spaCy? One thread, CPU time, both in one process.

    python bench/negatives.py

A is `nlp.pipe` of the same model without `ner` and `lemmatizer`, in batches of 256: what any code
that parses with spaCy pays at least. Ours is the whole fsc-clip recipe, from tars to Parquet, token
ids and edits included. The captions are Flickr8k's where they lie beside the checkout, else the
tests' own. The two take turns, and the last line has the median of the rounds' ratios for K = 5.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import spacy

from fscdata.negatives.parsing import load_parser
from fscdata.steps.negatives import Settings, make_negatives

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from captions import FLICKR_CAPTIONS, ODD, TEMPLATES
from tars import write_shards

CAPTIONS, ROUNDS = 5_000, 5


def captions_per_second(data: Path, variants: int, count: int) -> float:
    """Of make-negatives, everything counted."""
    started = time.process_time()
    make_negatives(data, Settings("fsc-clip", variants=variants), overwrite=True)
    return count / (time.process_time() - started)


def main() -> None:
    """See the module."""
    lines = [*TEMPLATES, *ODD]
    if FLICKR_CAPTIONS.is_file():
        lines = FLICKR_CAPTIONS.read_text().splitlines()
    captions = [line.strip() for line in lines[:CAPTIONS]]
    parser = load_parser()
    nlp = spacy.load(parser.info.model_name, exclude=["ner", "lemmatizer"])
    rates: dict[str, list[float]] = {"A": [], "K = 1": [], "K = 5": []}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        write_shards(
            data, [[(f"{i:06d}", captions[i : i + 5]) for i in range(0, len(captions), 5)]]
        )
        captions_per_second(data, 5, len(captions))  # fills the caches, as the first shard does
        for _ in range(ROUNDS):
            started = time.process_time()
            for _doc in nlp.pipe(captions, batch_size=256):
                pass
            rates["A"].append(len(captions) / (time.process_time() - started))
            rates["K = 1"].append(captions_per_second(data, 1, len(captions)))
            rates["K = 5"].append(captions_per_second(data, 5, len(captions)))
    print(f"{len(captions):,} captions, {ROUNDS} rounds, captions a second of CPU time (median)")
    for name, values in rates.items():
        ratios = [ours / a for ours, a in zip(values, rates["A"], strict=True)]
        print(f"{name:6} {statistics.median(values):7.0f}   {statistics.median(ratios):.2f} × A")
    print(f"negatives-vs-spacy {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
