"""Flickr8k's 1,000 pictures over a bad network on loopback, as one zip and as a hub's tars.

    python bench/downloads.py flickr8k-1k

The folder has `images/` and `captions.tsv`. The zip's server drops two connections in the middle
and answers 503 once; the hub answers 503 three times and drops six contents at their half. Each is
downloaded twice, and what the servers sent is counted.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from file_server import Answer, Drop, FileServer, Served
from fscdata.manifest import Manifest, load_manifest
from fscdata.steps.download import download
from fscdata.steps.pack import pack
from hub_server import HubRepository, HubServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def manifest(folder: Path, **fields: object) -> Manifest:
    licence = {"name": "none", "link": "https://example.org", "terms": "none"}
    texts = {"title": "Flickr8k", "captions": "a table", "citation": "none", "on_disk": "shards"}
    path = folder / "flickr8k.yaml"
    path.write_text(yaml.safe_dump(fields | texts | {"licence": licence}))
    return load_manifest(str(path))


def twice(small: Manifest, data: Path) -> None:
    for _ in range(2):
        start = time.perf_counter()
        report = download(small, data)
        source = report.source
        print(
            f"{time.perf_counter() - start:.4f} s: {report.shards} shards, {source.samples:,} "
            f"samples, {source.captions:,} captions, left out: {source.left_out or 'nothing'}"
        )


def archive(flickr: Path, folder: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for path in sorted((flickr / "images").iterdir()):
            zipped.write(path, f"images/{path.name}")
    size = buffer.tell()
    faults = [Drop(size // 3), Answer(503), Drop(size // 3)]
    with FileServer() as server:
        pictures = server.serve("images.zip", Served(buffer.getvalue(), faults=faults))
        captions = server.serve("captions.tsv", (flickr / "captions.tsv").read_bytes())
        small = manifest(
            folder,
            kind="archive",
            archives=[{"name": "images.zip", "addresses": [pictures], "size": size}],
            caption_files=[{"name": "captions.tsv", "addresses": [captions]}],
            packs=[{"captions": "captions.tsv"}],
        )
        twice(small, folder / "zip")
        total = sum(len(file.content) for file in server.files.values())
        print(f"files of {total:,} bytes, {server.sent:,} sent, {len(server.asked)} requests")


def hub(flickr: Path, folder: Path) -> None:
    pack(folder / "packed", flickr / "images", flickr / "captions.tsv", samples_per_shard=250)
    tars = {p.name: p.read_bytes() for p in sorted((folder / "packed" / "shards").glob("*.tar"))}
    with HubServer({"me/flickr8k": HubRepository({COMMIT: tars}, {"main": COMMIT})}) as server:
        os.environ["HF_ENDPOINT"] = server.url
        server.unavailable, server.drops = 3, 6
        small = manifest(
            folder, kind="huggingface", repository="me/flickr8k", shards=["{00000..00003}.tar"]
        )
        twice(small, folder / "hub")
        same = all((folder / "hub/shards" / n).read_bytes() == tar for n, tar in tars.items())
        total = sum(map(len, tars.values()))
        print(f"tars of {total:,} bytes, {server.sent:,} sent, the same bytes: {same}")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        archive(Path(sys.argv[1]), Path(name))
        hub(Path(sys.argv[1]), Path(name))


if __name__ == "__main__":
    main()
