"""Compiles WordNet's database files into the Arrow file that ships with the package."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from fscdata.base.errors import FsckitError
from fscdata.base.files import atomic_file
from fscdata.lexicon.table import (
    FORMAT_VERSION,
    METADATA_KEY,
    PARTS_OF_SPEECH,
    SCHEMA,
    content_digest,
)
from fscdata.lexicon.wndb import SynsetKey, WordNet, read_wordnet


def build_lexicon(source: Path, out: Path) -> Path:
    """Compile a WordNet folder into one Arrow file; equal input gives equal bytes.

    Args:
        source: WordNet's database folder: Debian's `/usr/share/wordnet`, or nltk's
            `corpora/wordnet`.
        out: the file to write.

    Raises:
        FsckitError: a file of the source is missing or damaged, or `out` cannot be written.
    """
    wordnet = read_wordnet(source)
    try:
        batch = _compile(wordnet)
    except KeyError as error:
        raise FsckitError(
            f"{source}: its files are from different WordNet versions: "
            f"{error.args[0]} is missing; use the original files"
        ) from None
    metadata = {
        "format_version": FORMAT_VERSION,
        "wordnet_version": wordnet.version,
        "source": wordnet.source,
        "digest": content_digest(batch),
    }
    schema = SCHEMA.with_metadata({METADATA_KEY: json.dumps(metadata, sort_keys=True).encode()})
    _write(batch.cast(schema), out)
    return out


def _write(batch: pa.RecordBatch, out: Path) -> None:
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=19))
    with (
        atomic_file(out) as file,
        pa.ipc.new_file(file, batch.schema, options=options) as writer,
    ):
        writer.write_batch(batch)


def _compile(wordnet: WordNet) -> pa.RecordBatch:
    """The arrays of `table.SCHEMA`.

    Raises:
        KeyError: a pointer's synset or lemma is missing.
    """
    synsets = wordnet.synsets
    number = {synset.key: i for i, synset in enumerate(synsets)}
    names = sorted({name for s in synsets for name, _ in s.lemmas} | wordnet.index.keys())
    name_number = {name: i for i, name in enumerate(names)}
    pos_counts = [sum(s.key[0] == pos for s in synsets) for pos in PARTS_OF_SPEECH]

    columns = {
        "names": names,
        "senses": [[number[key] for key in wordnet.index.get(name, [])] for name in names],
        "lemmas": [[name_number[name] for name, _ in s.lemmas] for s in synsets],
        "counts": [
            wordnet.counts.get((s.key, name.lower(), lex_id), 0)
            for s in synsets
            for name, lex_id in s.lemmas
        ],
        "hypernyms": [
            _distinct(number[p.target] for p in s.pointers if p.symbol == "@") for s in synsets
        ],
        "antonyms": _lemma_relation(wordnet, "!"),
        "derivations": _lemma_relation(wordnet, "+"),
        "first_synset": [sum(pos_counts[:i]) for i in range(len(pos_counts) + 1)],
        "exceptions": [wordnet.exceptions[pos] for pos in PARTS_OF_SPEECH],
    }
    arrays = [pa.array([columns[field.name]], field.type) for field in SCHEMA]
    return pa.record_batch(arrays, schema=SCHEMA)


def _lemma_relation(wordnet: WordNet, symbol: str) -> list[list[int]]:
    """Lemma → lemmas, by the pointers of one kind that connect single lemmas."""
    lemma_number: dict[tuple[SynsetKey, int], int] = {}
    for synset in wordnet.synsets:
        for i in range(1, len(synset.lemmas) + 1):
            lemma_number[synset.key, i] = len(lemma_number)
    targets: list[list[int]] = [[] for _ in lemma_number]
    for synset in wordnet.synsets:
        for p in synset.pointers:
            if p.symbol == symbol and p.source_lemma:
                source = lemma_number[synset.key, p.source_lemma]
                targets[source].append(lemma_number[p.target, p.target_lemma])
    return [_distinct(t) for t in targets]


def _distinct(numbers: Iterable[int]) -> list[int]:
    return sorted(set(numbers))
