"""Do our parses equal spaCy's, and are they independent of neighbouring captions?

    python bench/parse_batches.py [CAPTIONS.txt]

Reads one caption per line (Flickr8k's if shared/data exists beside the checkout, otherwise the
tests'). Parses every caption with stock spaCy once and with ours four times, each time in another
order and with another batch size. The last line is the share of parses that equal spaCy's.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from fscdata.negatives.model import without_torch
from fscdata.negatives.parsing import load_parser, plain_parse

with without_torch():
    import spacy

import common  # noqa: F401  (finds tests/support)
from support.captions import FLICKR_CAPTIONS, ODD, TEMPLATES


def main() -> None:
    """Run the benchmark."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else FLICKR_CAPTIONS
    captions = path.read_text().splitlines() if path.is_file() else [*TEMPLATES, *ODD]
    parser = load_parser()
    nlp = spacy.load(parser.info.model_name, exclude=["ner", "lemmatizer"])
    stock = [plain_parse(doc) for doc in nlp.pipe(captions)]
    order = list(range(len(captions)))
    same = total = 0
    for size in (len(captions), 1000, 7, 1):
        parses = (
            parse
            for start in range(0, len(order), size)
            for parse in parser.parse(captions[i] for i in order[start : start + size])
        )
        equal = sum(parse == stock[i] for i, parse in zip(order, parses, strict=True))
        print(f"{size:6,} at a time: {len(order) - equal:,} of {len(order):,} differ from spaCy's")
        same, total = same + equal, total + len(order)
        order = random.Random(size).sample(order, len(order))
    print(f"fast path: {'taken' if parser.fast else 'not taken'}")
    print(f"parse-batches-same {same / total:.6f}")


if __name__ == "__main__":
    main()
