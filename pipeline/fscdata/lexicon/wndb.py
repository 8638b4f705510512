"""Reads WordNet's database files, which wndb(5WN) and senseidx(5WN) describe."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fscdata.base.errors import FsckitError
from fscdata.lexicon.table import PARTS_OF_SPEECH, PartOfSpeech

FILE_SUFFIX: dict[PartOfSpeech, str] = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
FILES = (
    *(f"{kind}.{FILE_SUFFIX[pos]}" for kind in ("data", "index") for pos in PARTS_OF_SPEECH),
    *(f"{FILE_SUFFIX[pos]}.exc" for pos in PARTS_OF_SPEECH),
    "index.sense",
)

SynsetKey = tuple[str, int]  # part of speech (satellites under "a") and offset in its data file
_SENSE_POS = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Pointer:
    """A relation to another synset; lemma numbers count from 1, and 0 means the entire synset."""

    symbol: str
    target: SynsetKey
    source_lemma: int
    target_lemma: int


@dataclass(frozen=True, slots=True)
class Synset:
    """A line of a data file; `lemmas` are names with the lex_ids of their sense keys."""

    key: SynsetKey
    lemmas: list[tuple[str, int]]
    pointers: list[Pointer]


@dataclass(frozen=True)
class WordNet:
    """The content of a WordNet folder.

    Attributes:
        version: such as "3.0".
        source: a description with a digest of the files.
        synsets: by part of speech, in file order.
        index: lower-case lemma → its synsets in WordNet's order.
        counts: (synset, lower-case lemma, lex_id) → occurrences.
        exceptions: the lines of each exception file.
    """

    version: str
    source: str
    synsets: list[Synset]
    index: dict[str, list[SynsetKey]]
    counts: dict[tuple[SynsetKey, str, int], int]
    exceptions: dict[PartOfSpeech, list[str]]


def read_wordnet(folder: Path) -> WordNet:
    """Read WordNet's data, index, sense and exception files.

    Raises:
        FsckitError: a file is missing, or a line is not in WordNet's format.
    """
    index: dict[str, list[SynsetKey]] = {}
    for pos in PARTS_OF_SPEECH:
        for lemma, keys in _records(folder / f"index.{FILE_SUFFIX[pos]}", _index_entry):
            index.setdefault(lemma, []).extend(keys)
    return WordNet(
        version=_version(folder / "data.noun"),
        source=f"WordNet database files, BLAKE2b {_digest(folder)}",
        synsets=[
            synset
            for pos in PARTS_OF_SPEECH
            for synset in _records(folder / f"data.{FILE_SUFFIX[pos]}", _synset)
        ],
        index=index,
        counts=dict(_records(folder / "index.sense", _sense_count)),
        exceptions={
            pos: list(_records(folder / f"{FILE_SUFFIX[pos]}.exc", _exception))
            for pos in PARTS_OF_SPEECH
        },
    )


def _records(path: Path, parse: Callable[[str], _T]) -> Iterator[_T]:
    """Parse every line of a file except the licence, which is indented."""
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip() or line.startswith("  "):
            continue
        try:
            record = parse(line)
        except (ValueError, IndexError, KeyError):
            raise FsckitError(
                f"{path}: line {number} is not in WordNet's format; use the original files"
            ) from None
        yield record


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode()
    except UnicodeDecodeError:
        raise FsckitError(f"{path}: not UTF-8; use WordNet's original files") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FsckitError(
            f"{path}: cannot be read ({error.strerror}); pass WordNet's database folder: "
            f"/usr/share/wordnet after 'apt-get install wordnet-base wordnet-sense-index'"
        ) from None


def _synset(line: str) -> Synset:
    offset, _, ss_type, n_lemmas, *rest = line.partition("|")[0].split()
    pos = "a" if ss_type == "s" else ss_type
    n = int(n_lemmas, 16)
    # An adjective may have a syntactic marker: "galore(ip)".
    lemmas = [(re.sub(r"\([^()]*\)$", "", rest[2 * i]), int(rest[2 * i + 1], 16)) for i in range(n)]
    pointers = []
    for i in range(int(rest[2 * n])):
        symbol, target, target_pos, numbers = rest[2 * n + 1 + 4 * i : 2 * n + 5 + 4 * i]
        key = ("a" if target_pos == "s" else target_pos, int(target))
        pointers.append(Pointer(symbol, key, int(numbers[:2], 16), int(numbers[2:], 16)))
    return Synset((pos, int(offset)), lemmas, pointers)


def _index_entry(line: str) -> tuple[str, list[SynsetKey]]:
    lemma, pos, n_synsets, n_pointers, *rest = line.split()
    offsets = rest[int(n_pointers) + 2 :]
    if len(offsets) != int(n_synsets):
        raise ValueError
    return lemma, [(pos, int(offset)) for offset in offsets]


def _sense_count(line: str) -> tuple[tuple[SynsetKey, str, int], int]:
    sense_key, offset, _, count = line.split()
    lemma, _, sense = sense_key.rpartition("%")
    ss_type, _, lex_id = sense.split(":")[:3]
    return ((_SENSE_POS[ss_type], int(offset)), lemma, int(lex_id)), int(count)


def _exception(line: str) -> str:
    return " ".join(line.split())


def _version(path: Path) -> str:
    match = re.search(r"WordNet (\d+\.\d+) Copyright", _text(path))
    if match is None:
        raise FsckitError(f"{path}: WordNet's version is missing; use the original files")
    return match[1]


def _digest(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in FILES:
        digest.update(_bytes(folder / name))
    return digest.hexdigest()
