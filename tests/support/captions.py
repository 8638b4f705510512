"""Captions for tests: templates, odd ones, and the path to an optional real corpus."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path

from support import ROOT

FLICKR = Path(os.environ.get("FSCKIT_FLICKR8K", ROOT.parent / "shared" / "data"))
FLICKR_CAPTIONS = FLICKR / "flickr8k-captions.txt"

_SUBJECTS = ["A man", "Two young girls", "The old brown dog", "A black and white cat", "It", "Bob"]
_VERBS = [
    "is sitting on",
    "quickly runs past",
    "are looking at",
    "has been carried by",
    "stands next to",
    "jumps in front of",
    "holding",
]
_OBJECTS = ["a red car", "the three small wooden chairs", "her bicycle", "a street with tall trees"]
TEMPLATES = [
    f"{subject} {verb} {object_}{end}"
    for (subject, verb, object_), end in zip(
        product(_SUBJECTS, _VERBS, _OBJECTS), [".", " .", "", "!"] * 42, strict=True
    )
]

ODD = [
    "dog",
    "...",
    "?!",
    ".",
    "Dog dog dog dog",
    "dogs dogs dogs dogs dogs dogs dogs dogs dogs dogs dogs dogs dogs dogs",
    "A dog and a dog.",
    "A DOG CHASES A RED BALL",
    "the red and green and blue car passes a bull's eye sign",
    "a cute 🐶 with a 🎾 on the grass 👍🏽",
    "כלב רץ אחרי כדור אדום בפארק",
    "قطة سوداء تجلس على كرسي",
    "日本の犬が走っている。",
    "a dog\x00runs after\x00a ball",
    "a  dog   with\ttabs\nand lines",
    "a <b>bold</b> cat &amp; a [red]dog[/red] \x1b[31mhere\x1b[0m",
    "a man in a hat next to a woman in front of a house on top of a hill",
    "The piano is played by a woman in the room",
    "A woman looking at a dog taking off in spite of the rain",
    "men are standing slowly , running quickly and jumping happily",
    "naïve café waiter pours Ünïcode coffee",
    "http://example.com/a.jpg a photo of 3 geese and 12 oxen",
    "ﬁne “quotes” and ‘apostrophes’ don't won't can't",
    " ".join(f"a {c} dog near a {o}" for c, o in product(["red", "old"], ["car", "tree"] * 31))[
        :3000
    ],
]
