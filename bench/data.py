"""Images per second: PIL with a tokenizer, the bare decoder, and fsctrain. One core.

    python bench/data.py

Each method makes the same 1,000 images of 224 × 224 on one thread, timed in CPU time; the methods
alternate in each round. PIL is open_clip's training transform and its tokenizer with one caption
per image, JPEGs in memory. Bare is torchvision's `decode_jpeg` and `v2.RandomResizedCrop` on
uint8, JPEGs in memory. fsctrain makes whole batches from the tar, by offset (indexed) or from
start to end (streamed), with the token ids of each caption and its three negatives. The images are
Flickr8k's if shared/data exists beside the checkout, otherwise generated ones of 500 pixels. The
last line is the ratio of the total times of PIL and fsctrain, indexed.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import open_clip
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import InterpolationMode, v2

from common import ROOT
from fscdata.steps.expected import Settings
from fscdata.steps.negatives import make_negatives
from fsctrain.config import Config
from fsctrain.data import Source, open_source
from fsctrain.model import create_model
from support.captions import FLICKR, TEMPLATES
from support.tars import write_tar

IMAGES, SHARDS, BATCH, ROUNDS, SIZE = 1000, 4, 50, 3, 224
SCALE = (0.9, 1.0)
STYLES = ("negclip", "replace", "shuffle-2")


def made_jpeg(seed: int) -> bytes:
    """Patches of colour and fine grain, 500 × 375: about as many bytes as a photograph."""
    rng = np.random.default_rng(seed)
    patches = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    pixels = np.asarray(patches.resize((500, 375), Image.Resampling.BICUBIC), np.int16)
    grainy = (pixels + rng.normal(0, 12, pixels.shape)).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grainy).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def samples() -> Iterator[tuple[bytes, str]]:
    """Images, each with a caption."""
    folder = FLICKR / "flickr8k-1k"
    if folder.is_dir():
        captions = {}
        for line in (folder / "captions.tsv").read_text(encoding="utf-8").splitlines():
            name, *_, caption = line.split("\t")
            captions.setdefault(name, caption)
        for path in sorted((folder / "images").glob("*.jpg"))[:IMAGES]:
            yield path.read_bytes(), captions[path.name]
    else:
        for i, caption in zip(range(IMAGES), cycle(TEMPLATES), strict=False):
            yield made_jpeg(i), caption


def write_data(data: Path, pairs: list[tuple[bytes, str]]) -> None:
    """A data set of four tars with the negatives of the fsc-clip recipe."""
    for shard in range(SHARDS):
        members = []
        for i in range(shard, len(pairs), SHARDS):
            image, caption = pairs[i]
            record = json.dumps({"captions": [caption]}).encode()
            members += [(f"{i:06}.jpg", image), (f"{i:06}.json", record)]
        write_tar(data / "shards" / f"{shard:05}.tar", members)
    make_negatives(data, Settings("fsc-clip"))


def sources(data: Path) -> dict[str, Source]:
    """Our sources, for a small model with CLIP's tokenizer and context."""
    small = json.loads((ROOT / "tests" / "trainer" / "tiny.json").read_text())
    small["text_cfg"]["context_length"] = 77
    (data / "model.json").write_text(json.dumps(small))
    clip = create_model(str(data / "model.json"), "none")
    ways = {"indexed": {}, "streamed": {"stream": True}, "indexed, pil": {"transform": "pil"}}
    return {
        f"ours, {name}": open_source(
            Config(data=data, styles=STYLES, batch_size=BATCH, workers=0, **settings),
            clip,
            (SIZE, SIZE),
        )
        for name, settings in ways.items()
    }


def pil_and_tokenizer(pairs: list[tuple[bytes, str]]) -> None:
    transform = open_clip.image_transform(SIZE, is_train=True, aug_cfg={"scale": SCALE})
    tokenize = open_clip.get_tokenizer("ViT-B-32")
    for start in range(0, len(pairs), BATCH):
        part = pairs[start : start + BATCH]
        torch.stack([transform(Image.open(io.BytesIO(image))) for image, _ in part])
        torch.cat([tokenize([caption]) for _, caption in part])


def bare(images: list[torch.Tensor]) -> None:
    crop = v2.RandomResizedCrop(
        SIZE, scale=SCALE, interpolation=InterpolationMode.BICUBIC, antialias=True
    )
    for image in images:
        crop(decode_jpeg(image, mode=ImageReadMode.RGB))


def go_through(source: Source, epoch: int) -> None:
    first = epoch * source.steps_per_epoch
    assert sum(map(len, source.batches(first, first + source.steps_per_epoch))) == IMAGES


def seconds_of(work: Callable[[], object]) -> float:
    """CPU time."""
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    """Run the benchmark."""
    warnings.filterwarnings("ignore", module="torchvision")
    torch.set_num_threads(1)
    pairs = list(samples())
    encoded = [torch.frombuffer(bytearray(image), dtype=torch.uint8) for image, _ in pairs]
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder), pairs)
        ours = sources(Path(folder))
        times: dict[str, list[float]] = {}
        for turn in range(1 + ROUNDS):  # the first warms up
            ways: dict[str, Callable[[], object]] = {
                "PIL + tokenizer": lambda: pil_and_tokenizer(pairs),
                "bare": lambda: bare(encoded),
            }
            for name, source in ours.items():
                ways[name] = lambda source=source, turn=turn: go_through(source, turn)
            for name, work in ways.items():
                times.setdefault(name, []).append(seconds_of(work))
    whole = {name: sum(values[1:]) for name, values in times.items()}
    kind = "Flickr8k" if (FLICKR / "flickr8k-1k").is_dir() else "generated"
    mean = sum(len(image) for image, _ in pairs) / len(pairs)
    print(f"{len(pairs):,} {kind} images, {mean / 1000:.1f} kB on average, {ROUNDS} rounds")
    print(f"{'':16} {'images/s':>10} {'/ PIL':>7} {'/ bare':>7}")
    for name, seconds in whole.items():
        rate = ROUNDS * len(pairs) / seconds
        beside = [whole[other] / seconds for other in ("PIL + tokenizer", "bare")]
        print(f"{name:18} {rate:8.0f} {beside[0]:7.2f} {beside[1]:7.2f}")
    print(f"data-vs-pil {whole['PIL + tokenizer'] / whole['ours, indexed']:.2f}")


if __name__ == "__main__":
    main()
