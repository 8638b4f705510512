"""The schema of the compiled WordNet: one record batch of one row, with an array per column.

A *name* is a lemma as WordNet spells it ("Earth", "look_at"). A *synset* is a number: nouns come
first, then verbs, adjectives with their satellites, and adverbs. A *lemma* is a name in a synset,
numbered across all synsets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

FORMAT_VERSION = 1
METADATA_KEY = b"fsckit.lexicon"

PartOfSpeech = Literal["n", "v", "a", "r"]
PARTS_OF_SPEECH: tuple[PartOfSpeech, ...] = ("n", "v", "a", "r")  # the order of the synsets

_NUMBERS = pa.list_(pa.int32())
_ROWS = pa.list_(_NUMBERS)

SCHEMA = pa.schema(
    [
        pa.field("names", pa.list_(pa.string())),  # sorted by code point, with the index entries
        pa.field("senses", _ROWS),  # name → synsets, as WordNet ranks them
        pa.field("lemmas", _ROWS),  # synset → names
        pa.field("counts", _NUMBERS),  # lemma → occurrences in WordNet's tagged corpus
        pa.field("hypernyms", _ROWS),  # synset → synsets (@); hyponyms are the inverse
        pa.field("antonyms", _ROWS),  # lemma → lemmas (!)
        pa.field("derivations", _ROWS),  # lemma → lemmas (+)
        pa.field("first_synset", _NUMBERS),  # by part of speech, then the number of synsets
        pa.field("exceptions", pa.list_(pa.list_(pa.string()))),  # lines by part of speech
    ]
)


def content_digest(batch: pa.RecordBatch) -> str:
    """The BLAKE2b-128 of the arrays' content as hex, independent of compression."""
    digest = hashlib.blake2b(digest_size=16)
    for name in SCHEMA.names:
        for part in _parts(batch.column(name)):
            digest.update(part.tobytes())
    return digest.hexdigest()


def view(numbers: pa.Array) -> npt.NDArray[Any]:
    """An Arrow array of numbers without nulls as a numpy array.

    Not `to_numpy`: it imports pandas if installed, which takes longer than all other start-up.
    """
    array: npt.NDArray[Any] = np.from_dlpack(numbers)
    return array


def _parts(array: pa.Array) -> Iterator[npt.NDArray[Any]]:
    """The offsets and values of an array without nulls, outermost first."""
    if pa.types.is_list(array.type):
        yield view(array.offsets)
        yield from _parts(array.flatten())
    elif pa.types.is_string(array.type):
        lengths = view(pc.binary_length(array))
        yield lengths
        yield np.frombuffer(array.buffers()[2] or b"", np.uint8)[: lengths.sum()]
    else:
        yield view(array)
