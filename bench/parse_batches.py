"""Do a caption's parses depend on its neighbours? Every parse again, in another order and batch.

    python bench/parse_batches.py [CAPTIONS.txt]

Reads one caption a line (Flickr8k's where the file lies beside the checkout, else the tests'), and
ends with the name and the share of parses that are the same.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import spacy

from fscdata.negatives.parsing import load_parser, plain_parse

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from captions import FLICKR_CAPTIONS, ODD, TEMPLATES


def main() -> None:
    """See the module."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else FLICKR_CAPTIONS
    captions = path.read_text().splitlines() if path.is_file() else [*TEMPLATES, *ODD]
    parser = load_parser()
    first = dict(zip(captions, parser.parse(captions), strict=True))
    nlp = spacy.load(parser.info.model_name, exclude=["ner", "lemmatizer"])
    same = total = 0
    for batch_size in (1, 7, 1000):
        shuffled = random.Random(batch_size).sample(captions, len(captions))
        for doc in nlp.pipe(shuffled, batch_size=batch_size):
            same += plain_parse(doc) == first[doc.text]
            total += 1
    print(f"{len(captions):,} captions in batches of 1, 7 and 1,000, each in an order of its own")
    print(f"{total - same:,} of {total:,} parses differ from those in batches of 128")
    print(f"parse-batches-same {same / total:.6f}")


if __name__ == "__main__":
    main()
