"""Readers for caption files: TSV, CSV, JSON lines, Parquet, COCO captions, NegCLIP's table.

Each reader yields, in file order, a `Row` or the reason a row is skipped.
"""

from __future__ import annotations

import ast
import csv
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from fscdata.base.errors import FsckitError, first_line
from fscdata.base.paths import cannot_be
from fscdata.base.text import is_unicode, printable
from fscdata.contract import MAX_CAPTIONS

IMAGE_COLUMNS = ("image", "filename", "file_name", "filepath", "file")
CAPTION_COLUMNS = ("caption", "captions", "title", "text", "sentence", "raw")
NEGATIVES_COLUMN = "neg_caption"  # NegCLIP's published negatives of the row's caption
MAX_LITERAL = 64 * 1024  # characters of a list literal; Python's parser is slow on huge ones

BAD_ENCODING = "bad row: not UTF-8"
BAD_JSON = "bad row: not a JSON object"
BAD_NEGATIVES = "unreadable published negatives"

Captions = dict[str, list[str]]  # caption → its published negatives


class Row(NamedTuple):
    """A row's values as found in the file; `caption` may be a list of captions."""

    image: object
    caption: object
    negatives: object = None


@dataclass
class CaptionFile:
    """The content of a caption file.

    Attributes:
        images: image name → captions → their published negatives.
        skipped: number of skipped rows per reason.
    """

    images: dict[str, Captions] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)


def read_captions(path: Path) -> CaptionFile:
    """Read a caption file of any supported format.

    A table (TSV, CSV, JSON lines, Parquet) has an image column, one of `IMAGE_COLUMNS`, and a
    caption column, one of `CAPTION_COLUMNS`; an image may have several rows. A JSON file is either
    in COCO's format, with `images` and `annotations`, or a list of such rows.

    Raises:
        FsckitError: the file is missing or empty, has an unknown format, or lacks a column.
    """
    file = CaptionFile()
    try:
        for row in _rows(path):
            file.skipped.update([row] if isinstance(row, str) else _add(file.images, row))
    except OSError as error:
        raise cannot_be("read", path, error) from None
    if not file.images and not file.skipped:
        raise FsckitError(f"{path}: contains no captions; choose another file")
    return file


def _add(images: dict[str, Captions], row: Row) -> list[str]:
    """Add a row to the images; return the reasons for skipping any of it."""
    if not isinstance(row.image, str) or not row.image.strip():
        return ["bad row: no image name"]
    if not is_unicode(row.image):
        return [BAD_ENCODING]
    captions = images.setdefault(row.image.strip(), {})
    items = row.caption if isinstance(row.caption, list) else [row.caption]
    reasons = []
    published = [] if row.negatives is None else _strings(row.negatives)
    if published is None or (published and len(items) != 1):
        reasons.append(BAD_NEGATIVES)
        published = []
    for item in items:
        caption, reason = _clean(item, captions)
        if reason:
            reasons.append(reason)
        else:
            captions[caption] = published
    return reasons


def _clean(item: object, captions: Captions) -> tuple[str, str | None]:
    """The stripped caption, and the reason it cannot be added, if any."""
    caption = "" if item is None else item
    if not isinstance(caption, str):
        return "", "bad row: the caption is not text"
    if not is_unicode(caption):
        return "", BAD_ENCODING
    caption = caption.strip()
    if not caption:
        return "", "empty caption"
    if caption in captions:
        return "", "duplicate row"
    if len(captions) == MAX_CAPTIONS:
        return "", f"more than {MAX_CAPTIONS} captions of one image"
    return caption, None


def _strings(value: object) -> list[str] | None:
    """A list of strings, or a Python literal of one; None if it is neither."""
    if isinstance(value, str):
        if len(value) > MAX_LITERAL:
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # invalid escapes in the literal
                value = ast.literal_eval(value.strip())
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return None
    if not isinstance(value, list) or not all(isinstance(v, str) and is_unicode(v) for v in value):
        return None
    return [v.strip() for v in value if v.strip()]


def _rows(path: Path) -> Iterator[Row | str]:
    with path.open("rb") as stream:
        parquet = stream.read(4) == b"PAR1"
    if parquet or path.suffix == ".parquet":
        yield from _read_parquet(path)
    elif reader := _READERS.get(path.suffix.lower()):
        # Invalid UTF-8 invalidates only its own row, not the file.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
            yield from reader(path, text)
    else:
        known = ", ".join([*_READERS, ".parquet"])
        raise FsckitError(f"{path}: unknown caption format; use one of {known}")


def _read_csv(path: Path, text: TextIO) -> Iterator[Row | str]:
    return _read_table(path, csv.reader(text, strict=True))


def _read_tsv(path: Path, text: TextIO) -> Iterator[Row | str]:
    """Plain tab-separated text, or NegCLIP's table, which pandas wrote with quotes."""
    quoted = NEGATIVES_COLUMN in text.readline().rstrip("\r\n").split("\t")
    text.seek(0)
    if quoted:
        reader = csv.reader(text, delimiter="\t", strict=True)
    else:
        reader = csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
    return _read_table(path, reader)


def _read_table(path: Path, reader: Any) -> Iterator[Row | str]:
    """The rows of a csv.reader, whose first row is the header."""
    header: list[str] = []
    for row in _parsed(reader):
        if isinstance(row, str):
            yield row
        elif row and not header:
            header = row
            places = {name.strip().lower(): i for i, name in enumerate(header)}
            image, caption = (places[name] for name in _columns(path, places))
            negatives = places.get(NEGATIVES_COLUMN)
        elif row and len(row) != len(header):
            yield "bad row: another number of fields than the header"
        elif row:
            yield Row(row[image], row[caption], None if negatives is None else row[negatives])


def _parsed(reader: Any) -> Iterator[list[str] | str]:
    """The reader's rows; a reason for each line that it cannot parse."""
    while True:
        line = reader.line_num
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            reason = "bad row: broken quotes, or a field too long"
            yield from [reason] * (reader.line_num - line)
        else:
            yield row


def _read_jsonl(path: Path, text: TextIO) -> Iterator[Row | str]:
    return _read_records(path, (_json(line) for line in text if line.strip()))


def _read_json(path: Path, text: TextIO) -> Iterator[Row | str]:
    """COCO captions, or a list of objects as in JSON lines."""
    content = _json(text.read())
    return _read_records(path, content) if isinstance(content, list) else _read_coco(path, content)


def _read_records(path: Path, records: Iterable[object]) -> Iterator[Row | str]:
    first = True
    for record in records:
        if not isinstance(record, dict):
            yield BAD_JSON
            continue
        names = {name.lower(): name for name in record}
        try:
            image, caption = (names[name] for name in _columns(path, names))
        except FsckitError:
            if first:  # the whole file has the wrong format, not just one row
                raise
            yield "bad row: no image or no caption field"
            continue
        first = False
        negatives = names.get(NEGATIVES_COLUMN)
        yield Row(record[image], record[caption], negatives and record[negatives])


def _read_parquet(path: Path) -> Iterator[Row | str]:
    try:
        with pq.ParquetFile(path) as parquet:
            names = {name.strip().lower(): name for name in parquet.schema_arrow.names}
            columns = [names[name] for name in _columns(path, names)]
            if NEGATIVES_COLUMN in names:
                columns.append(names[NEGATIVES_COLUMN])
            for batch in parquet.iter_batches(columns=columns):
                values = [batch.column(name).to_pylist() for name in columns]
                yield from (Row(*row) for row in zip(*values, strict=True))
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise FsckitError(
            f"{path}: damaged, or not Parquet ({first_line(error)}); download it again"
        ) from None


def _read_coco(path: Path, content: object) -> Iterator[Row | str]:
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


_READERS: dict[str, Callable[[Path, TextIO], Iterator[Row | str]]] = {
    ".tsv": _read_tsv,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".json": _read_json,
}


def _columns(path: Path, names: Iterable[str]) -> tuple[str, str]:
    """The image column and the caption column among lower-case names."""
    present = list(names)
    columns = []
    for kind, accepted in (("image", IMAGE_COLUMNS), ("caption", CAPTION_COLUMNS)):
        name = next((name for name in accepted if name in present), None)
        if name is None:
            shown = ", ".join(f"'{printable(name[:40])}'" for name in present[:20]) or "none"
            raise FsckitError(
                f"{path}: no {kind} column; found {shown}, expected one of {', '.join(accepted)}"
            )
        columns.append(name)
    return columns[0], columns[1]


def _json(text: str) -> Any:
    """Parse JSON; None if it is invalid."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
