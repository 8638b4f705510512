"""Rule-based replacements stay within a class and replace every occurrence of a word."""

from __future__ import annotations

from fscdata.negatives.draw import Draw
from fscdata.negatives.parsing import load_parser
from fscdata.negatives.style import Caption, Negative, apply_edits, create_style, seed_key
from fscdata.negatives.styles.svlc import word_classes


def negatives(caption: str, variants: int) -> list[Negative] | str:
    style = create_style("svlc")
    key = seed_key(0, style)
    key.update(caption.encode())
    return style.negatives(
        Caption(caption, next(load_parser().parse([caption]))), Draw(key), variants
    )


def test_eight_classes_without_repeats() -> None:
    classes = word_classes()
    assert list(classes) == [
        "colour", "material", "size", "state", "action", "noun", "counts", "counts_capital",
    ]  # fmt: skip
    for words in classes.values():
        assert len(set(words)) == len(words) >= 10


def test_support_is_the_rest_of_each_class() -> None:
    caption = "Two red dogs and a red cat."
    classes = word_classes()
    expected = {f"Two {w} dogs and a {w} cat." for w in classes["colour"] if w != "red"}
    expected |= {f"{w} red dogs and a red cat." for w in classes["counts_capital"] if w != "Two"}
    expected |= {f"Two red dogs and a red {w}." for w in classes["noun"] if w != "cat"}
    found = negatives(caption, 127)
    assert len({n.text for n in found}) == 127
    assert {n.text for n in found} <= expected
    for negative in found:
        assert apply_edits(caption, negative.edits) == negative.text
        assert negative.operator.partition(":")[2] in ("colour", "counts_capital", "noun")


def test_reason() -> None:
    assert negatives("???", 3) == "no word of any class"
