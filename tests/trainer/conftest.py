"""Small data sets and models for tests, written only with the contract package."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pyarrow as pa
import pytest
from PIL import Image

from fscdata.contract import (
    Metadata,
    Provenance,
    ShardRecord,
    caption_hash,
    index_tar,
    negatives_path,
    negatives_schema,
    samples_path,
    samples_schema,
    write_parquet,
)
from fsctrain.config import Config
from support import tars

VARIANTS = 3  # per caption and style, as `plain_samples` has them
TINY = Path(__file__).parent / "tiny.json"
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "grey": (128,) * 3}
WHOLE, MIDDLE = slice(None), slice(14, 26)
SHAPES = {"tall": (WHOLE, MIDDLE), "wide": (MIDDLE, WHOLE), "large": (WHOLE, WHOLE)}


@dataclass
class Sample:
    """An image, its captions, and per style the negatives of each caption, one per variant."""

    key: str
    image: bytes
    captions: list[str]
    negatives: dict[str, list[list[str]]] = field(default_factory=dict)
    extension: str = "jpg"


def jpeg(colour: tuple[int, int, int], shape: tuple[slice, slice], seed: int = 0) -> bytes:
    """A coloured bar or square on a noisy white 40 × 40 background."""
    pixels = np.full((40, 40, 3), 230)
    pixels[shape] = colour
    pixels += np.random.default_rng(seed).integers(-20, 20, pixels.shape)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def plain_samples() -> list[Sample]:
    """Twelve images; every third has no negative of style `colour`, the first none at all."""
    colours, samples = list(COLOURS), []
    for i, colour in enumerate(COLOURS):
        for j, (shape, place) in enumerate(SHAPES.items()):
            others = [f"a {shape} {c} image" for c in colours if c != colour]
            words = [f"a {s} {colour} image" for s in SHAPES if s != shape]
            first = i == j == 0
            samples.append(
                Sample(
                    key=f"{i}{j}",
                    image=jpeg(COLOURS[colour], place, seed=i * 3 + j),
                    captions=[f"a {shape} {colour} image"],
                    negatives={
                        "colour": [[] if j == 0 else others],
                        "shape": [[] if first else words],
                    },
                )
            )
    return samples


@cache
def _tokenizer() -> Any:
    return open_clip.SimpleTokenizer()


def _ids(text: str) -> list[int]:
    return [49406, *_tokenizer().encode(text), 49407]


def write_tar(path: Path, samples: list[Sample]) -> None:
    members = []
    for sample in samples:
        record = json.dumps({"captions": sample.captions}).encode()
        members += [
            (f"{sample.key}.{sample.extension}", sample.image),
            (f"{sample.key}.json", record),
        ]
    tars.write_tar(path, members)


def write_tables(
    data: Path, tar: Path, samples: list[Sample], tokenizer: str | None = "clip-bpe", seed: int = 0
) -> None:
    """Write the samples table of a tar and, for each style, its negatives table."""
    index = index_tar(tar)
    by_key = {sample.key: sample for sample in samples}
    tokens = _ids if tokenizer else lambda text: None
    rows = [
        {
            "key": found.key,
            "caption_index": i,
            "caption": caption,
            "caption_hash": caption_hash(caption),
            "image_ext": found.image_ext,
            "image_offset": found.image_offset,
            "image_size": found.image_size,
            "token_ids": tokens(caption),
        }
        for found in index.samples
        for i, caption in found.captions
    ]
    styles = sorted({style for sample in samples for style in sample.negatives})
    tables = {samples_path(data, tar.stem): (None, rows, samples_schema())}
    for style in styles:
        negatives = [
            {
                "key": row["key"],
                "caption_index": row["caption_index"],
                "caption_hash": row["caption_hash"],
                "variant": variant,
                "negative": negative,
                "operator": "swap:noun",
                "relation": None,
                "edits": [],
                "token_ids": tokens(negative),
            }
            for row in rows
            for variant, negative in enumerate(
                by_key[row["key"]].negatives[style][row["caption_index"]]
            )
        ]
        tables[negatives_path(data, style, tar.stem)] = (style, negatives, negatives_schema())
    for path, (style, table, schema) in tables.items():
        provenance = Provenance(
            table="negatives" if style else "samples",
            caption_source="default",
            tokenizer=tokenizer,
            style=style,
            seed=seed if style else None,
            variants=VARIANTS if style else None,
        )
        shard = ShardRecord(
            tar=tar.name,
            tar_size=tar.stat().st_size,
            tar_digest=index.digest,
            captions_digest=index.captions_digest,
            rows=len(table),
            captions=len(rows),
            without={"none": len(rows) - len({(r["key"], r["caption_index"]) for r in table})},
        )
        write_parquet(path, pa.Table.from_pylist(table, schema), Metadata(provenance, shard))


def write_data(
    data: Path,
    samples: list[Sample],
    per_shard: int = 5,
    tokenizer: str | None = "clip-bpe",
    seed: int = 0,
) -> Path:
    for number, start in enumerate(range(0, len(samples), per_shard)):
        part = samples[start : start + per_shard]
        tar = data / "shards" / f"{number:05}.tar"
        write_tar(tar, part)
        write_tables(data, tar, part, tokenizer, seed)
    return data


@pytest.fixture
def make_sample() -> type[Sample]:
    return Sample


@pytest.fixture
def samples() -> list[Sample]:
    return plain_samples()


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., Path]:
    def make(samples: list[Sample], **options: Any) -> Path:
        return write_data(tmp_path / "data", samples, **options)

    return make


@pytest.fixture
def rewrite_tables() -> Callable[..., None]:
    return write_tables


@pytest.fixture
def rewrite_tar() -> Callable[..., None]:
    return write_tar


@pytest.fixture
def data(make_data: Callable[..., Path], samples: list[Sample]) -> Path:
    return make_data(samples)


@pytest.fixture
def tiny_model() -> str:
    return str(TINY)


@pytest.fixture
def config(data: Path, tmp_path: Path) -> Config:
    """A run of a few seconds with every part of the fsc-clip loss."""
    return Config(
        data=data,
        model=str(TINY),
        pretrained="none",
        loss="fsc-clip",
        styles=("colour", "shape"),
        global_weight=0.5,
        local_weight=0.2,
        steps=4,
        batch_size=4,
        lr=1e-3,
        warmup=2,
        workers=0,
        device="cpu",
        out=tmp_path / "runs",
        name="test",
        log_every=1,
    )
