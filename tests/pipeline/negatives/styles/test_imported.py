"""Published negatives are imported unchanged."""

from __future__ import annotations

from fscdata.negatives.draw import Draw
from fscdata.negatives.style import Caption, apply_edits, create_style, seed_key


def test_published_negatives() -> None:
    style = create_style("imported")
    published = ["a cat and a dog", "a dog and a cat", "a cat and a dog", "a dog or a cat", " "]
    caption = Caption("a dog and a cat", None, published)
    found = style.negatives(caption, Draw(seed_key(0, style)), 5)
    assert {n.text for n in found} == {"a cat and a dog", "a dog or a cat"}
    assert all(apply_edits(caption.text, n.edits) == n.text for n in found)
    assert len(style.negatives(caption, Draw(seed_key(0, style)), 1)) == 1
    assert style.negatives(Caption("a dog"), Draw(seed_key(0, style)), 1) == "none published"
