"""A sample of replacements under an inflected tag, to be judged by eye.

    python bench/inflection.py [SEED]

Makes replacements, five variants per caption, for 3,000 captions of Flickr8k if shared/data exists
beside the checkout, otherwise for the tests' captions. Prints 300 of those under a tag of a plural,
an inflected verb, a comparative or a superlative: the tag, the old and the new words, the negative.
The last line estimates the share of replacements that are not inflected: WordNet has the new words
as a lemma. The estimate counts forms that equal their lemma, such as "put" and "people".
"""

from __future__ import annotations

import random
import sys
from collections import Counter

import common  # noqa: F401  (finds tests/support)
from fscdata.lexicon import load_lexicon
from fscdata.negatives.draw import Draw
from fscdata.negatives.parsing import load_parser
from fscdata.negatives.style import Caption, create_style, seed_key
from support.captions import FLICKR_CAPTIONS, ODD, TEMPLATES

POS = {"N": "n", "V": "v", "J": "a", "R": "r"}
TAGS = ("NNS", "NNPS", "VBD", "VBG", "VBN", "VBZ", "JJR", "JJS", "RBR", "RBS")
CAPTIONS, SHOWN, VARIANTS = 3000, 300, 5


def main() -> None:
    """Run the benchmark."""
    generator = random.Random(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    captions = [*TEMPLATES, *ODD]
    if FLICKR_CAPTIONS.is_file():
        captions = [line.strip() for line in FLICKR_CAPTIONS.read_text().splitlines()]
        captions = generator.sample(captions, CAPTIONS)
    style, lexicon = create_style("replace"), load_lexicon()
    key = seed_key(0, style)
    lines, unchanged, made = [], Counter[str](), Counter[str]()
    for caption, parse in zip(captions, load_parser().parse(captions), strict=True):
        mine = key.copy()
        mine.update(caption.encode())
        found = style.negatives(Caption(caption, parse), Draw(mine), VARIANTS)
        for negative in found if isinstance(found, list) else []:
            edit = negative.edits[0]
            tag = parse.tags[parse.starts.index(edit.start)]
            if tag not in TAGS or negative.relation == "preposition":
                continue
            made[tag] += 1
            unchanged[tag] += lexicon.contains(edit.new.lower().replace(" ", "_"), POS[tag[0]])
            context = f"{caption[: edit.start]}[{edit.new}]{caption[edit.end :]}"
            lines.append(f"{tag:4} {edit.old} → {edit.new} | {context}")
    for line in generator.sample(lines, min(SHOWN, len(lines))):
        print(line)
    for tag, n in made.most_common():
        print(f"{tag:4} {n:6,} replacements, {unchanged[tag] / n:.3f} not inflected")
    print(f"uninflected-share {unchanged.total() / made.total():.4f}")


if __name__ == "__main__":
    main()
