"""Writes small webdataset tars for tests."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

from PIL import Image


def jpeg(colour: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (40, 30)) -> bytes:
    """A real JPEG of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "JPEG")
    return buffer.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    """Write a tar of these members, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def sample(key: str, captions: list[Any], **fields: Any) -> list[tuple[str, bytes]]:
    """The members of a sample as `fscdata pack` writes them."""
    record = {"key": key, "captions": captions} | fields
    return [(f"{key}.jpg", jpeg()), (f"{key}.json", json.dumps(record).encode())]


def img2dataset_sample(key: str, caption: str) -> list[tuple[str, bytes]]:
    """The members of a sample as img2dataset writes them."""
    record = {"caption": caption, "url": "http://localhost/x.jpg", "key": key, "status": "success"}
    return [
        (f"{key}.jpg", jpeg()),
        (f"{key}.txt", caption.encode()),
        (f"{key}.json", json.dumps(record).encode()),
    ]


def write_shards(data: Path, shards: list[list[tuple[str, list[str]]]]) -> list[Path]:
    """Write DATA/shards, with one tar per list of (key, captions)."""
    return [
        write_tar(
            data / "shards" / f"{number:05d}.tar",
            [member for key, captions in samples for member in sample(key, captions)],
        )
        for number, samples in enumerate(shards)
    ]
