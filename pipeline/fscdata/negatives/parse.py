"""What the styles see of a caption: a parse as plain lists."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Parse:
    """A parsed caption: lists of one entry a token, and noun chunks as (start, end, root)."""

    text: str
    words: list[str]
    starts: list[int]  # character offset of each token
    tags: list[str]
    pos: list[str]
    deps: list[str]
    heads: list[int]  # the root is its own head
    chunks: list[tuple[int, int, int]]

    def end(self, i: int) -> int:
        """Character offset behind token i."""
        return self.starts[i] + len(self.words[i])


def span_root(heads: list[int], start: int, end: int) -> int:
    """The token of [start, end) that is highest in the tree, as spaCy's `Span.root` has it."""
    for i in range(start, end):
        if heads[i] == i:
            return i
    outward = [i for i in range(start, end) if not start <= heads[i] < end]
    return min(outward, key=lambda i: _depth(heads, i), default=start)


def _depth(heads: list[int], i: int) -> int:
    """Steps to the root of the sentence; a circle ends after as many as there are tokens."""
    depth = 0
    while heads[i] != i and depth < len(heads):
        i = heads[i]
        depth += 1
    return depth
