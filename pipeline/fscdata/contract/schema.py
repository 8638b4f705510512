"""The tables' Arrow schemas, and the provenance in each Parquet footer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import pyarrow as pa

SCHEMA_VERSION = 1
SAMPLES: Final = "samples"  # a table's name is SAMPLES or a style
CLIP_BPE = "clip-bpe"  # the only tokenizer whose ids are stored

# Ids include the start and end tokens and are never truncated: the trainer truncates them to its
# context length as open_clip does, so the tables do not depend on a model's context length.
TOKEN_IDS = pa.list_(pa.uint16())
EDITS = pa.list_(
    pa.struct(
        [
            pa.field("start", pa.int32(), nullable=False),
            pa.field("end", pa.int32(), nullable=False),
            pa.field("old", pa.string(), nullable=False),
            pa.field("new", pa.string(), nullable=False),
        ]
    )
)


# What each column contains, for a data set's README.md.
SAMPLES_COLUMNS = {
    "key": "the sample's name in its tar",
    "caption_index": "number of the caption among the sample's captions, from 0",
    "caption": "the caption",
    "caption_hash": "BLAKE2b-64 of the caption, to detect changes",
    "image_ext": "the image's extension in the tar: its member is named `key.image_ext`",
    "image_offset": "the image's first byte in the tar",
    "image_size": "the image's size in bytes",
    "token_ids": "CLIP token ids with start and end tokens, not truncated; null if not stored",
}
NEGATIVES_COLUMNS = {
    "key": "the sample's name in its tar",
    "caption_index": "number of the caption; (`key`, `caption_index`) joins the samples table",
    "caption_hash": "hash of the caption that the negative was made from",
    "variant": "number of the negative among the caption's negatives of this style, from 0",
    "negative": "the hard negative",
    "operator": "what was done: `swap:noun`, `replace:attribute`, `shuffle:2`",
    "relation": "how a replacement relates to the old word: `antonym`, `cohyponym`; else null",
    "edits": "caption to negative: each replaces `old`, at caption[start:end], with `new`",
    "token_ids": "CLIP token ids with start and end tokens, not truncated; null if not stored",
}


def caption_hash(caption: str) -> int:
    """A caption's identity as uint64: BLAKE2b-64 of its UTF-8 bytes, little-endian."""
    return int.from_bytes(hashlib.blake2b(caption.encode(), digest_size=8).digest(), "little")


def samples_schema() -> pa.Schema:
    """One row per caption, in tar order.

    `image_offset` and `image_size` are the image's byte range inside the tar.
    """
    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("caption_index", pa.int16(), nullable=False),
            pa.field("caption", pa.string(), nullable=False),
            pa.field("caption_hash", pa.uint64(), nullable=False),
            pa.field("image_ext", pa.string(), nullable=False),
            pa.field("image_offset", pa.int64(), nullable=False),
            pa.field("image_size", pa.int64(), nullable=False),
            pa.field("token_ids", TOKEN_IDS),
        ]
    )


def negatives_schema() -> pa.Schema:
    """One row per negative, sorted by tar order, caption_index and variant.

    Each of the `edits` replaces `old`, at caption[start:end] (in characters), with `new`. Together
    they turn the caption into the negative.
    """
    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("caption_index", pa.int16(), nullable=False),
            pa.field("caption_hash", pa.uint64(), nullable=False),
            pa.field("variant", pa.int8(), nullable=False),
            pa.field("negative", pa.string(), nullable=False),
            pa.field("operator", pa.string(), nullable=False),
            pa.field("relation", pa.string()),
            pa.field("edits", EDITS),
            pa.field("token_ids", TOKEN_IDS),
        ]
    )


@dataclass(frozen=True)
class Provenance:
    """How a table was made; the same in all its shards."""

    table: Literal["samples", "negatives"]
    caption_source: str
    tokenizer: str | None
    style: str | None = None
    style_version: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    variants: int | None = None
    spacy_version: str | None = None
    model_name: str | None = None
    model_version: str | None = None
    model_digest: str | None = None
    lexicon_digest: str | None = None
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class ShardRecord:
    """The tar that one shard of a table was made from, and the shard's contents.

    Two digests identify the tar: `tar_digest` covers its members' names, offsets and sizes,
    `captions_digest` its captions. Neither covers pixels, which would require reading the whole
    tar; the trainer checks each image's 512-byte header when it reads the image. A stream cannot
    read a tar in advance, so it compares the tar's name and size, and each sample's captions as
    they arrive.

    `without` counts, by reason, the captions that have no negative (in a negatives table) or the
    samples and captions that have no row (in the samples table).
    """

    tar: str
    tar_size: int
    tar_digest: str
    captions_digest: str
    rows: int
    captions: int
    without: dict[str, int] = field(default_factory=dict)
