"""COCO's captions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fscdata.base.errors import FsckitError
from fscdata.captions.rows import BAD_JSON, Row


def read_coco(path: Path, content: object) -> Iterator[Row | str]:
    """The rows of COCO's captions JSON, in the order of its images.

    Raises:
        FsckitError: the content has no images and annotations.
    """
    record = content if isinstance(content, dict) else {}
    images, annotations = record.get("images"), record.get("annotations")
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise FsckitError(
            f"{path}: not COCO captions (no 'images' and 'annotations' lists); if it contains JSON "
            f"lines, rename it to .jsonl"
        )
    names: dict[int | str, object] = {}
    for image in images:
        if not isinstance(image, dict):
            yield BAD_JSON
            continue
        if isinstance(image.get("id"), int | str):
            names[image["id"]] = image.get("file_name")
        yield Row(image.get("file_name"), [])  # an image without captions is counted later
    for annotation in annotations:
        if not isinstance(annotation, dict):
            yield BAD_JSON
            continue
        image_id = annotation.get("image_id")
        if isinstance(image_id, int | str) and image_id in names:
            yield Row(names[image_id], annotation.get("caption"))
        else:
            yield "bad row: an annotation of no image"
