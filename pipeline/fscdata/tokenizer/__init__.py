"""CLIP's byte-pair encoding: the same ids as open_clip's SimpleTokenizer, which imports torch.

Text is cleaned and split as open_clip does (ftfy, html, the same regular expression), and
HuggingFace's `tokenizers` does the merges; a test compares the ids. The merges are OpenAI's (MIT
licence, see NOTICES.md), truncated to the 48,894 that CLIP uses.
"""

from __future__ import annotations

import gzip
import html
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import ftfy
import numpy as np
import regex
from numpy.typing import NDArray
from tokenizers.models import BPE

from fscdata.base.errors import FsckitError
from fscdata.contract import CLIP_BPE

_START, _END = "<start_of_text>", "<end_of_text>"
_WORDS = regex.compile(
    rf"{_START}|{_END}|'s|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+",
    regex.IGNORECASE,
)
_CACHE_SIZE = 2**15  # chunks, about 200 bytes each
_OPEN, _CLOSE = "\0", "\1"  # chunks that mark the start and end of a text
_OPEN_ID = 2**16 - 1  # not a token id


def _byte_characters() -> dict[int, str]:
    """The printable character that represents each byte in the merges, in id order."""
    own = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in own]
    return {b: chr(b) for b in own} | {b: chr(256 + i) for i, b in enumerate(others)}


class ClipTokenizer:
    """Maps a text to token ids; caches the ids of chunks between spaces."""

    def __init__(self) -> None:
        text = _merges()
        merges = [(a, b) for a, _, b in (line.partition(" ") for line in text.split("\n"))]
        self._bytes = _byte_characters()
        letters = self._bytes.values()
        words = [*letters, *(c + "</w>" for c in letters), *text.replace(" ", "").split("\n")]
        vocabulary = {word: i for i, word in enumerate([*words, _START, _END])}
        self._bpe = BPE(vocabulary, merges, end_of_word_suffix="</w>")
        self._start, self._end = vocabulary[_START], vocabulary[_END]
        self._cache: dict[str, bytes] = {}  # chunk → its ids as bytes, two per id

    def __call__(self, text: str) -> list[int]:
        """The ids of a text, with start and end token, not truncated."""
        ids: list[int] = self.batch([text])[0].tolist()
        return ids

    def batch(self, texts: Sequence[str]) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
        """The concatenated ids of N texts, and the offsets [N + 1] of each text's ids."""
        marked = [f" {_OPEN} {_clean(text)} {_CLOSE}" for text in texts]
        chunks = "".join(marked).lower().split()  # all texts at once, which is faster
        self._learn(set(chunks))
        ids = np.frombuffer(b"".join(map(self._cache.__getitem__, chunks)), np.uint16)
        opens = ids == _OPEN_ID
        offsets = np.append(np.flatnonzero(opens), len(ids)) - np.arange(len(texts) + 1)
        return ids[~opens], offsets.astype(np.int32)

    def _learn(self, chunks: set[str]) -> None:
        """Add the ids of chunks to the cache; it is emptied first if it would grow too large."""
        new = chunks - self._cache.keys()
        if len(self._cache) + len(new) > _CACHE_SIZE:
            self._cache, new = {}, chunks
        self._cache.update((chunk, self._encode(chunk)) for chunk in new)

    def _encode(self, chunk: str) -> bytes:
        if chunk == _OPEN:
            return np.array([_OPEN_ID, self._start], np.uint16).tobytes()
        if chunk == _CLOSE:
            return np.array([self._end], np.uint16).tobytes()
        ids: list[int] = []
        for word in _WORDS.findall(chunk):
            if word in (_START, _END):
                ids.append(self._start if word == _START else self._end)
            else:
                letters = "".join(self._bytes[b] for b in word.encode())
                ids.extend(token.id for token in self._bpe.tokenize(letters))
        return np.array(ids, np.uint16).tobytes()


@cache
def clip_words() -> frozenset[str]:
    """The words of one token: about 34,000 that are frequent on the web."""
    lines = _merges().split("\n")
    joined = (line.replace(" ", "") for line in lines)
    return frozenset(word.removesuffix("</w>") for word in joined if word.endswith("</w>"))


def _merges() -> str:
    """Lines of two symbols each, in the order of the merges."""
    packed = (files(__package__) / "clip_bpe_merges.txt.gz").read_bytes()
    return gzip.decompress(packed).decode()


def _clean(text: str) -> str:
    """The text as CLIP's tokenizer reads it, without control characters."""
    # ftfy and HTML unescaping do not change printable ASCII without "&".
    if text.isascii() and text.isprintable() and "&" not in text:
        return text
    return html.unescape(html.unescape(ftfy.fix_text(text)))


def tokenizer_of(model: str) -> str | None:
    """The tokenizer of an open_clip model, or None for the model "none".

    The models with CLIP's tokenizer are listed in a file, since asking open_clip needs torch.

    Raises:
        FsckitError: the model uses another tokenizer.
    """
    if model == "none":
        return None
    known = (files(__package__) / "clip_bpe_models.txt").read_text().split()
    if model in known:
        return CLIP_BPE
    raise FsckitError(
        f"`tokenizer` {model}: not one of the {len(known)} open_clip models with CLIP's tokenizer "
        f"(ViT-B-32, ViT-B-16, ViT-L-14, …); choose one of them, or 'none' to let the trainer "
        f"tokenize"
    )
