"""Negatives of captions, the same wherever the captions come from: a shard or a list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fscdata.base.errors import FsckitError
from fscdata.base.text import is_unicode
from fscdata.negatives.draw import draws
from fscdata.negatives.model import MAX_CHARACTERS
from fscdata.negatives.parse import Parse
from fscdata.negatives.style import Caption, Edit, Negative, Style, seed_key
from fscdata.recipes import parse_recipe

MAX_VARIANTS = 127  # int8


@dataclass(frozen=True)
class HardNegative:
    """A caption that a small edit has made false.

    Attributes:
        style: the style that made it, such as "negclip".
        text: the negative.
        operator: what the style did, such as "swap:noun".
        edits: what turns the caption into `text`; each replaces caption[start:end], which equals
            `old`, with `new`.
        relation: how a replacement relates to the old word, such as "antonym", if known.
    """

    style: str
    text: str
    operator: str
    edits: tuple[Edit, ...]
    relation: str | None = None


@dataclass(frozen=True)
class CaptionNegatives:
    """A caption's negatives, in the order of the recipe's styles and their variants.

    Attributes:
        caption: the caption.
        negatives: its negatives of all styles.
        without: the reason, for each style that made none.
    """

    caption: str
    negatives: list[HardNegative] = field(default_factory=list)
    without: dict[str, str] = field(default_factory=dict)


def negatives_of(
    captions: Sequence[str], recipe: str = "fsc-clip", variants: int = 5, seed: int = 0
) -> list[CaptionNegatives]:
    """The hard negatives of captions, equal to those that `fscdata make-negatives` stores.

    The first call takes about a second to load spaCy's model.

    Args:
        captions: the captions; unlike `fscdata pack`, this does not strip white space.
        recipe: a recipe, a style, or a comma-separated list of both; `all` is every style.
        variants: the maximum number of negatives per caption and style.
        seed: the random seed.

    Returns:
        One result per caption, in order.

    Raises:
        FsckitError: unknown recipe, `variants` out of range, or a caption that is not Unicode text.
    """
    check_variants(variants)
    styles = parse_recipe(recipe)
    if isinstance(captions, str):
        raise FsckitError("`captions`: expected a list of texts, not one text")
    for caption in captions:
        if not isinstance(caption, str) or not is_unicode(caption):
            raise FsckitError(f"`captions`: {caption!r} is not Unicode text")
    parses = parse_captions(styles, captions)
    given = [Caption(text, parse) for text, parse in zip(captions, parses, strict=True)]
    results = [CaptionNegatives(text) for text in captions]
    for style in styles:
        made = style_negatives(style, given, seed, max_variants(style, variants))
        for result, negatives in zip(results, made, strict=True):
            if isinstance(negatives, str):
                result.without[style.name] = negatives
            else:
                result.negatives.extend(
                    HardNegative(style.name, n.text, n.operator, tuple(n.edits), n.relation)
                    for n in negatives
                )
    return results


def check_variants(variants: int) -> None:
    """Raise FsckitError unless the number of variants can be stored."""
    if not 1 <= variants <= MAX_VARIANTS:
        raise FsckitError(f"`variants` {variants}: choose 1 to {MAX_VARIANTS}")


def max_variants(style: Style, variants: int) -> int:
    """The maximum number of negatives per caption of a style, if `variants` are asked for."""
    return MAX_VARIANTS if style.returns_all else variants


def style_negatives(
    style: Style, captions: Sequence[Caption], seed: int, variants: int
) -> Iterator[list[Negative] | str]:
    """Each caption's negatives, or the reason it has none."""
    common = seed_key(seed, style)
    keys = []
    for caption in captions:
        keys.append(key := common.copy())
        key.update(caption.text.encode())
    for caption, draw in zip(captions, draws(keys), strict=True):
        if style.uses_parse and caption.parse is None:
            yield f"longer than {MAX_CHARACTERS} characters"
        else:
            yield style.negatives(caption, draw, variants)


def parse_captions(styles: Sequence[Style], texts: Sequence[str]) -> Iterator[Parse | None]:
    """One parse per text; None if the text is too long or no style needs parses."""
    if not any(style.uses_parse for style in styles):
        yield from (None for _ in texts)
        return
    # spaCy takes a second to import; the driver and styles without parses do not need it.
    from fscdata.negatives.parsing import load_parser  # noqa: PLC0415

    parses = load_parser().parse(text for text in texts if len(text) <= MAX_CHARACTERS)
    for text in texts:
        yield next(parses) if len(text) <= MAX_CHARACTERS else None
