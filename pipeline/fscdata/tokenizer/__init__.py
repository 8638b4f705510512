"""CLIP's byte-pair encoding, id for id that of open_clip's SimpleTokenizer, without torch.

The merges are OpenAI's (MIT licence, see NOTICES.md), cut to the 48,894 that CLIP uses. Ids are
stored with start and end token and never cut: the trainer cuts them to its context length.
"""

from __future__ import annotations

import gzip
import html
from importlib.resources import files

import ftfy
import regex
from tokenizers.models import BPE

from fscdata.contract import CLIP_BPE, FsckitError

_START, _END = "<start_of_text>", "<end_of_text>"
_WORDS = regex.compile(
    rf"{_START}|{_END}|'s|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+",
    regex.IGNORECASE,
)
_CACHE_SIZE = 500_000  # chunks; a caption corpus has far fewer


def _byte_characters() -> dict[int, str]:
    """The printable character that stands for each byte in the merges, in the order of the ids."""
    own = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in own]
    return {b: chr(b) for b in own} | {b: chr(256 + i) for i, b in enumerate(others)}


class ClipTokenizer:
    """Callable text → token ids; equal chunks of text are encoded once."""

    def __init__(self) -> None:
        packed = (files(__package__) / "clip_bpe_merges.txt.gz").read_bytes()
        pairs = [line.split(" ") for line in gzip.decompress(packed).decode().split("\n")]
        merges = [(first, second) for first, second in pairs]
        self._bytes = _byte_characters()
        letters = self._bytes.values()
        words = [*letters, *(c + "</w>" for c in letters), *("".join(m) for m in merges)]
        vocabulary = {word: i for i, word in enumerate([*words, _START, _END])}
        self._bpe = BPE(vocabulary, merges, end_of_word_suffix="</w>")
        self._start, self._end = vocabulary[_START], vocabulary[_END]
        self._cache: dict[str, tuple[int, ...]] = {}

    def __call__(self, text: str) -> list[int]:
        """Ids of a text of any length, with start and end token."""
        # Printable ASCII without "&" is what ftfy and HTML unescaping leave as it is.
        if not (text.isascii() and text.isprintable() and "&" not in text):
            text = html.unescape(html.unescape(ftfy.fix_text(text)))
        ids = [self._start]
        cache = self._cache
        for chunk in text.lower().split():
            found = cache.get(chunk)
            if found is None:
                if len(cache) >= _CACHE_SIZE:
                    cache.clear()
                found = cache[chunk] = self._encode(chunk)
            ids.extend(found)
        ids.append(self._end)
        return ids

    def _encode(self, chunk: str) -> tuple[int, ...]:
        ids: list[int] = []
        for word in _WORDS.findall(chunk):
            if word in (_START, _END):
                ids.append(self._start if word == _START else self._end)
            else:
                letters = "".join(self._bytes[b] for b in word.encode())
                ids.extend(token.id for token in self._bpe.tokenize(letters))
        return tuple(ids)


def tokenizer_of(model: str) -> str | None:
    """The tokenizer's name for an open_clip model name, or None for the word `none`.

    Raises:
        FsckitError: the model uses a tokenizer other than CLIP's.
    """
    if model == "none":
        return None
    known = (files(__package__) / "clip_bpe_models.txt").read_text().split()
    if model in known:
        return CLIP_BPE
    raise FsckitError(
        f"--tokenizer {model}: not one of the {len(known)} open_clip models with CLIP's own "
        f"tokenizer (ViT-B-32, ViT-B-16, ViT-L-14, …); with --tokenizer none the trainer tokenizes"
    )
