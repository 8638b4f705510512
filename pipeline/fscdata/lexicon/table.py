"""The Arrow file that WordNet is compiled to: one record batch of one row, an array a column.

A *name* is a lemma as WordNet spells it ("Earth", "look_at"); a *synset* is a number, nouns first,
then verbs, adjectives with their satellites, adverbs; a *lemma* is a name in a synset, numbered
through all synsets.
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
        pa.field("names", pa.list_(pa.string())),  # by code point, index entries among them
        pa.field("senses", _ROWS),  # name → synsets, as WordNet ranks them
        pa.field("lemmas", _ROWS),  # synset → names
        pa.field("counts", _NUMBERS),  # lemma → occurrences in WordNet's tagged corpus
        pa.field("hypernyms", _ROWS),  # synset → synsets (@); hyponyms are the inverse
        pa.field("antonyms", _ROWS),  # lemma → lemmas (!)
        pa.field("derivations", _ROWS),  # lemma → lemmas (+)
        pa.field("first_synset", _NUMBERS),  # by part of speech, and the number of all
        pa.field("exceptions", pa.list_(pa.list_(pa.string()))),  # lines by part of speech
    ]
)


def content_digest(batch: pa.RecordBatch) -> str:
    """BLAKE2b-128, as hex, of what the arrays hold, however they are compressed."""
    digest = hashlib.blake2b(digest_size=16)
    for name in SCHEMA.names:
        for part in _parts(batch.column(name)):
            digest.update(part.tobytes())
    return digest.hexdigest()


def view(numbers: pa.Array) -> npt.NDArray[Any]:
    """An array of numbers without nulls as numpy's; `to_numpy` imports pandas where there is one,
    which takes longer than all the rest of a start."""
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
