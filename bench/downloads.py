"""Download 1,000 images over loopback with injected faults, and one large file at full speed.

    python bench/downloads.py

The images are Flickr8k's if shared/data exists beside the checkout, otherwise generated ones. They
come as one zip with a table, and as tars from a hub. The zip's server drops two connections and
answers 503 once; the hub answers 503 three times and drops six files halfway. Each is downloaded
twice, and the script counts the bytes the servers sent. fscdata and `requests` alternately
download the large file from a server in another process; the last line is the ratio of speeds.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from statistics import median

import requests
import yaml

import common  # noqa: F401  (finds tests/support)
from fscdata.download.fetch import fetch_file
from fscdata.download.kind import Manifest
from fscdata.download.manifest import load_manifest
from fscdata.download.run import download
from fscdata.steps.pack import pack
from support.file_server import Answer, Drop, FileServer, Served
from support.hub_server import HubRepository, HubServer
from support.tars import jpeg

FLICKR8K = Path(__file__).parents[2] / "shared" / "data" / "flickr8k-1k"
LARGE = 2**28  # bytes
ROUNDS = 5
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
        images = server.serve("images.zip", Served(buffer.getvalue(), faults=faults))
        captions = server.serve("captions.tsv", (flickr / "captions.tsv").read_bytes())
        small = manifest(
            folder,
            kind="archive",
            archives=[{"name": "images.zip", "addresses": [images], "size": size}],
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
        print(f"tars of {total:,} bytes, {server.sent:,} sent, identical: {same}")


def images(folder: Path) -> Path:
    """A folder with `images/` and `captions.tsv`."""
    if FLICKR8K.is_dir():
        return FLICKR8K
    (folder / "images").mkdir(parents=True)
    for i in range(1000):
        (folder / "images" / f"{i}.jpg").write_bytes(jpeg((i % 256, i // 256, 90)))
    rows = "".join(f"{i}.jpg\tPicture {i}.\n" for i in range(1000))
    (folder / "captions.tsv").write_text(f"image\tcaption\n{rows}")
    return folder


def beside_a_bare_download(folder: Path) -> None:
    (folder / "large").write_bytes(os.urandom(LARGE))
    serve = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(
        [*serve, "--directory", folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        port = server.stdout.readline().split("port ")[1].split()[0]
        address = f"http://127.0.0.1:{port}/large"
        seconds: dict[str, list[float]] = {"bare": [], "ours": []}
        for i in range(ROUNDS):
            start = time.perf_counter()
            bare(address, folder / f"bare{i}")
            middle = time.perf_counter()
            fetch_file([address], folder / f"ours{i}")
            seconds["bare"].append(middle - start)
            seconds["ours"].append(time.perf_counter() - middle)
            for name in ("bare", "ours"):
                (folder / f"{name}{i}").unlink()
        server.terminate()
    for name, each in seconds.items():
        print(f"{name}: {LARGE / median(each) / 1e6:,.0f} MB/s")
    print(f"download-vs-bare {median(seconds['bare']) / median(seconds['ours']):.2f}")


def bare(address: str, target: Path) -> None:
    with requests.get(address, stream=True, timeout=60) as response, target.open("wb") as file:
        for block in response.iter_content(2**18):
            file.write(block)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        source = images(Path(name, "images"))
        archive(source, Path(name))
        hub(source, Path(name))
        beside_a_bare_download(Path(name))


if __name__ == "__main__":
    main()
