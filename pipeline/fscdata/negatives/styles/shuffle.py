"""N-gram shuffles (CREPE, Ma et al., 2023; FSC-CLIP): word order destroyed, words kept.

Tokens are cut into consecutive N-grams and these permuted. Punctuation that is the last N-gram by
itself is put back at a random place. Results are compared as tokens, never parsed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations, product

from fscdata.contract import FsckitError
from fscdata.negatives.draw import Draw, distinct
from fscdata.negatives.parse import Parse
from fscdata.negatives.style import Caption, Edit, Negative, Style

_LONGEST = 5
_ENUMERABLE = 6  # N-grams; 720 orders at most
Token = tuple[str, bool]  # the word, and whether it is punctuation


class Shuffle(Style):
    """Consecutive N-grams in another order."""

    version = 1

    def __init__(self, n: int) -> None:
        self.n = n
        self.name = f"shuffle-{n}"

    def negatives(self, caption: Caption, draw: Draw, variants: int) -> list[Negative] | str:
        """See `Style.negatives`."""
        parse = caption.parse
        assert parse is not None
        ngrams, punctuation = cut(parse, self.n)
        if len(ngrams) < 2:
            return "fewer than two n-grams"
        original = _inner([token for ngram in ngrams for token in ngram])
        places = range(len(ngrams) + 1) if punctuation else (0,)

        def one() -> str:
            order = list(ngrams)
            draw.shuffle(order)
            return _text(order, punctuation, draw.below(len(places)), original)

        def everything() -> Iterator[str]:
            if len(ngrams) > _ENUMERABLE:
                return
            for order, place in product(permutations(ngrams), places):
                yield _text(list(order), punctuation, place, original)

        texts = distinct(one, everything, lambda text: text, "", variants)
        return [
            Negative(text, f"shuffle:{self.n}", [changed_part(caption.text, text)])
            for text in texts
        ] or "every order reads like the caption"


def cut(parse: Parse, n: int) -> tuple[list[list[Token]], list[Token]]:
    """The N-grams of a caption, and its final punctuation where that is an N-gram by itself."""
    tokens = [
        (word, pos == "PUNCT")
        for word, pos in zip(parse.words, parse.pos, strict=True)
        if pos != "SPACE"
    ]
    ngrams = [tokens[i : i + n] for i in range(0, len(tokens), n)]
    if ngrams and len(ngrams[-1]) == 1 and ngrams[-1][0][1]:
        return ngrams[:-1], ngrams[-1]
    return ngrams, []


def _text(
    order: list[list[Token]], punctuation: list[Token], place: int, original: list[str]
) -> str:
    """The shuffled caption, or nothing where it has the caption's words in their order."""
    if punctuation:
        if place:
            order[place - 1] = order[place - 1] + punctuation
        else:
            order.insert(0, punctuation)
    if _inner([token for ngram in order for token in ngram]) == original:
        return ""
    return " ".join(_join(ngram) for ngram in order)


def _join(ngram: list[Token]) -> str:
    """Words with spaces between them, none before punctuation."""
    text = ngram[0][0]
    for word, is_punctuation in ngram[1:]:
        text += word if is_punctuation else f" {word}"
    return text


def _inner(tokens: list[Token]) -> list[str]:
    """The words, without punctuation at either edge."""
    last = len(tokens) - 1
    return [word for i, (word, punct) in enumerate(tokens) if not (punct and i in (0, last))]


def changed_part(old: str, new: str) -> Edit:
    """One edit that turns a text into another: what lies between their common ends.

    The ends are cut back to white space, so that the edit holds whole words.
    """
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    while start and not old[start - 1].isspace():
        start -= 1
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    while end and not old[len(old) - end].isspace():
        end -= 1
    return Edit(start, len(old) - end, old[start : len(old) - end], new[start : len(new) - end])


def create(argument: str | None) -> Style:
    """The style; its argument is the length of the N-grams, 1 to 5."""
    if argument is None or argument not in {str(n) for n in range(1, _LONGEST + 1)}:
        raise FsckitError(
            f"style 'shuffle' needs the length of its n-grams: shuffle-1 … shuffle-{_LONGEST}"
        )
    return Shuffle(int(argument))
