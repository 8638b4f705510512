"""Captions in text files beside the images: `a.txt` for `a.jpg`, one caption per line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from fscdata.captions.rows import BAD_ENCODING, Row


def read_text_files(folder: Path, images: Iterable[Path]) -> Iterator[Row | str]:
    """The captions of each image that has a text file, in the order of the images' paths."""
    for image in sorted(images):
        text = image.with_suffix(".txt")
        if not text.is_file():
            continue
        try:
            lines = text.read_bytes().decode("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            yield BAD_ENCODING
            continue
        captions = [line for line in lines if line.strip()]
        yield Row(image.relative_to(folder).as_posix(), captions)
