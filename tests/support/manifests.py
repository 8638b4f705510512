"""Manifests as users write them, and a small COCO."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import yaml

from fscdata.download.kind import Manifest
from fscdata.download.manifest import load_manifest
from support.captions import TEMPLATES
from support.file_server import FileServer
from support.tars import jpeg

TERMS = {
    "title": "Small",
    "captions": "in the table",
    "licence": {"name": "MIT", "link": "https://example.org/mit", "terms": "Keep the notice."},
    "citation": "Nobody, 2024",
    "on_disk": "shards",
}
IMAGES = 12


def manifest(folder: Path, **fields: object) -> Manifest:
    """The manifest that a user would write with these fields."""
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**TERMS, **fields}))
    return load_manifest(str(path))


def coco_zip(split: str, numbers: range) -> bytes:
    """A zip in COCO's layout: a folder of JPEGs."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{split}/", b"")
        archive.writestr("readme.bin", bytes(range(256)) * 1000)
        for i in numbers:
            colour = (i * 19 % 256, 255 - i * 7 % 256, 90)
            archive.writestr(f"{split}/COCO_{split}_{i:012d}.jpg", jpeg(colour))
    return buffer.getvalue()


def neg_clip(rows: list[tuple[str, int]]) -> bytes:
    """A table in NegCLIP's layout, from one (split, number) per row."""
    lines = ["\ttitle\tfilepath\tneg_caption\tneg_image"]
    for row, (split, i) in enumerate(rows):
        path = f"coco/{split}/COCO_{split}_{i:012d}.jpg"
        negative = f"not {TEMPLATES[i]}".replace("'", "")
        lines.append(f"{row}\t{TEMPLATES[i]}\t{path}\t['{negative}']\t[0]")
    return ("\n".join(lines) + "\n").encode()


def serve_coco(server: FileServer, folder: Path) -> Manifest:
    """A small COCO behind the server, and its manifest."""
    half = IMAGES // 2
    rows = [("train2014", i) for i in range(half)] + [("val2014", i) for i in range(half, IMAGES)]
    contents = {
        "train2014.zip": coco_zip("train2014", range(half)),
        "val2014.zip": coco_zip("val2014", range(half, IMAGES + 1)),
        "train_neg_clip.tsv": neg_clip([*rows[:-2], ("train2014", 99)]),
        "valid_neg_clip.tsv": neg_clip(rows[-2:]),
    }
    files = [
        {"name": name, "addresses": [server.serve(name, content)]}
        for name, content in contents.items()
    ]
    return manifest(
        folder,
        kind="archive",
        archives=files[:2],
        caption_files=files[2:],
        packs=[{"captions": "train_neg_clip.tsv"},
               {"captions": "valid_neg_clip.tsv", "folder": "valid"}],
    )  # fmt: skip


def tree(folder: Path) -> dict[str, bytes]:
    """The files of a data set, without its record, which has a date."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("SOURCE.json", ".fscdata.lock")
    }
