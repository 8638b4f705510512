"""N-gram shuffles (CREPE, Ma et al., 2023; FSC-CLIP): the same words in another order.

Tokens are split into consecutive N-grams, which are permuted. Punctuation that forms the last
N-gram by itself is inserted at a random place. Results are compared as tokens, not parsed again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, permutations, product
from operator import ne

from fscdata.base.errors import FsckitError
from fscdata.negatives.draw import Draw, distinct
from fscdata.negatives.parse import Parse
from fscdata.negatives.style import Caption, Edit, Negative, Style

_LONGEST = 5
_ENUMERABLE = 6  # list all orders of at most this many N-grams: 720
Token = tuple[str, bool]  # the word, and whether it is punctuation


class Shuffle(Style):
    """Permutes consecutive N-grams."""

    version = 1

    def __init__(self, n: int) -> None:
        self.n = n
        self.name = f"shuffle-{n}"
        self._operator = f"shuffle:{n}"

    def negatives(self, caption: Caption, draw: Draw, variants: int) -> list[Negative] | str:
        """See `Style.negatives`."""
        parse = caption.parse
        assert parse is not None
        ngrams = NGrams(parse, self.n)
        count = len(ngrams.texts)
        if count < 2:
            return "fewer than two n-grams"
        places = count + 1 if ngrams.punctuation else 1

        def negative(order: list[int], place: int) -> Negative | None:
            if ngrams.read_alike(order, place):
                return None
            text = ngrams.text(order, place)
            return Negative(text, self._operator, [changed_part(caption.text, text)])

        def one() -> Negative | None:
            order = list(range(count))
            draw.shuffle(order)
            return negative(order, draw.below(places))

        def everything() -> Iterator[Negative | None]:
            for order, place in product(permutations(range(count)), range(places)):
                yield negative(list(order), place)

        few = count <= _ENUMERABLE
        found = distinct(one, everything if few else None, variants)
        return found or "every order reads like the caption"


class NGrams:
    """The N-grams of a caption, numbered in caption order.

    Attributes:
        texts: the N-grams, with a space before each word but not before punctuation inside an
            N-gram.
        punctuation: the final punctuation mark, if it forms an N-gram by itself; not in `texts`.
    """

    def __init__(self, parse: Parse, n: int) -> None:
        self._n = n
        tokens = [
            (word, pos == "PUNCT")
            for word, pos in zip(parse.words, parse.pos, strict=True)
            if pos != "SPACE"
        ]
        alone = len(tokens) % n == 1 % n and bool(tokens) and tokens[-1][1]
        self.punctuation = tokens.pop() if alone else None
        self._tokens = tokens
        self._original = _inner(tokens)
        pieces = [word if mark and i % n else f" {word}" for i, (word, mark) in enumerate(tokens)]
        self.texts = ["".join(pieces[i : i + n]) for i in range(0, len(pieces), n)]

    def text(self, order: list[int], place: int) -> str:
        """The N-grams in an order, with the punctuation after the first `place` of them."""
        parts = [self.texts[i] for i in order]
        if self.punctuation:
            mark, _ = self.punctuation
            parts.insert(place, mark if place else f" {mark}")
        return "".join(parts)[1:]

    def read_alike(self, order: list[int], place: int) -> bool:
        """Whether that text has the caption's words in the caption's order."""
        n, tokens = self._n, self._tokens
        first, is_punctuation = tokens[order[0] * n]
        if not is_punctuation and first != self._original[0]:
            return False  # a shortcut for most orders
        parts = [tokens[i * n : (i + 1) * n] for i in order]
        if self.punctuation:
            parts.insert(place, [self.punctuation])
        return _inner(list(chain.from_iterable(parts))) == self._original


def _inner(tokens: list[Token]) -> list[str]:
    """The words, without punctuation at either end."""
    words = [word for word, _ in tokens]
    if tokens and tokens[-1][1]:
        words.pop()
    return words[1:] if tokens and tokens[0][1] else words


def changed_part(old: str, new: str) -> Edit:
    """One edit that turns a text into another: the part between their common start and end.

    The edit is widened to white space, so that it covers entire words.
    """
    start = _alike(old, new)
    while start and not old[start - 1].isspace():
        start -= 1
    end = _alike(reversed(old[start:]), reversed(new[start:]))
    while end and not old[len(old) - end].isspace():
        end -= 1
    return Edit(start, len(old) - end, old[start : len(old) - end], new[start : len(new) - end])


def _alike(first: Iterable[str], second: Iterable[str]) -> int:
    """The length of the common prefix of two texts."""
    count = 0
    for differs in map(ne, first, second):
        if differs:
            break
        count += 1
    return count


def create(argument: str | None) -> Style:
    """The style; its argument is the length of the N-grams, from 1 to 5."""
    if argument is None or argument not in {str(n) for n in range(1, _LONGEST + 1)}:
        raise FsckitError(
            f"style 'shuffle' needs an n-gram length; use shuffle-1 … shuffle-{_LONGEST}"
        )
    return Shuffle(int(argument))
