"""A caption's parse as plain lists; styles see nothing else."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Parse:
    """A parsed caption: lists with one entry per token, and noun chunks as (start, end, root)."""

    text: str
    words: list[str]
    starts: list[int]  # character offset of each token
    tags: list[str]
    pos: list[str]
    deps: list[str]
    heads: list[int]  # a root is its own head
    chunks: list[tuple[int, int, int]]

    def end(self, i: int) -> int:
        """The character offset of token i's end."""
        return self.starts[i] + len(self.words[i])


def span_root(heads: list[int], start: int, end: int) -> int:
    """The highest token of [start, end) in the tree, as in spaCy's `Span.root`."""
    for i in range(start, end):
        if heads[i] == i:
            return i
    outward = [i for i in range(start, end) if not start <= heads[i] < end]
    return min(outward, key=lambda i: _depth(heads, i), default=start)


def _depth(heads: list[int], i: int) -> int:
    """Steps to the root of the sentence, at most the number of tokens in case of a cycle."""
    depth = 0
    while heads[i] != i and depth < len(heads):
        i = heads[i]
        depth += 1
    return depth
