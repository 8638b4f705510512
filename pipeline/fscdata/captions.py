"""Readers of caption files: TSV, CSV, JSON lines, Parquet, COCO captions, NegCLIP's table.

Each gives, per image name, its captions in the order of the file, and counts by reason whatever
it could not take.
"""

from __future__ import annotations

import ast
import csv
import json
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from fscdata.base.errors import FsckitError
from fscdata.base.text import is_unicode, printable
from fscdata.contract import MAX_CAPTIONS

IMAGE_COLUMNS = ("image", "filename", "file_name", "filepath", "file")
CAPTION_COLUMNS = ("caption", "captions", "title", "text", "sentence", "raw")
NEGATIVES_COLUMN = "neg_caption"  # NegCLIP's published negatives of the row's caption
MAX_LITERAL = 64 * 1024  # characters of a list literal that Python's parser is trusted with

BAD_ENCODING = "bad row: not UTF-8"
BAD_NEGATIVES = "unreadable published negatives"


@dataclass
class CaptionFile:
    """What a caption file says.

    `images` maps an image's name to its captions, and each caption to its published negatives.
    `skipped` counts by reason what was left out.
    """

    images: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, image: object, caption: object, negatives: object = None) -> None:
        """Take one row, its values as found; `caption` may be a list of captions."""
        if not isinstance(image, str) or not image.strip():
            self.skipped["bad row: no image name"] += 1
            return
        if not is_unicode(image):
            self.skipped[BAD_ENCODING] += 1
            return
        captions = self.images.setdefault(image.strip(), {})
        items = caption if isinstance(caption, list) else [caption]
        published = [] if negatives is None else _strings(negatives)
        if published is None or (published and len(items) != 1):
            self.skipped[BAD_NEGATIVES] += 1
            published = []
        for item in items:
            reason = _add_caption(captions, item, published)
            if reason:
                self.skipped[reason] += 1


def read_captions(path: Path) -> CaptionFile:
    """Read a caption file of any of the formats.

    A table (TSV, CSV, JSON lines, Parquet) has an image column, one of `IMAGE_COLUMNS`, and a
    caption column, one of `CAPTION_COLUMNS`; several rows may be of one image. A JSON file is
    COCO's, `images` and `annotations`, or a list of such rows.

    Raises:
        FsckitError: the file is missing or empty, of no known format, or lacks such columns.
    """
    file = CaptionFile()
    try:
        with path.open("rb") as stream:
            parquet = stream.read(4) == b"PAR1"
        if parquet or path.suffix == ".parquet":
            _read_parquet(path, file)
        elif reader := _READERS.get(path.suffix.lower()):
            # A byte that is not UTF-8 spoils its own row, not the file.
            with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
                reader(path, text, file)
        else:
            known = ", ".join([*_READERS, ".parquet"])
            raise FsckitError(f"{path}: not a caption file that fscdata knows; it reads {known}")
    except OSError as error:
        raise FsckitError(f"{path}: cannot be read ({error.strerror or error})") from None
    if not file.images and not file.skipped:
        raise FsckitError(f"{path}: there is no caption in it")
    return file


def _read_csv(path: Path, text: TextIO, file: CaptionFile) -> None:
    _read_rows(path, csv.reader(text, strict=True), file)


def _read_tsv(path: Path, text: TextIO, file: CaptionFile) -> None:
    """Plain tab-separated text; NegCLIP's is written by pandas, which quotes."""
    quoted = NEGATIVES_COLUMN in text.readline().rstrip("\r\n").split("\t")
    text.seek(0)
    if quoted:
        reader = csv.reader(text, delimiter="\t", strict=True)
    else:
        reader = csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
    _read_rows(path, reader, file)


def _read_rows(path: Path, reader: Any, file: CaptionFile) -> None:
    """Rows of a csv.reader, the header first."""
    header: list[str] = []
    for row in _parsed(reader, file.skipped):
        if not row:
            continue
        if not header:
            header = row
            places = {name.strip().lower(): i for i, name in enumerate(header)}
            image, caption = (places[name] for name in _columns(path, places))
            negatives = places.get(NEGATIVES_COLUMN)
        elif len(row) != len(header):
            file.skipped["bad row: another number of fields than the header"] += 1
        else:
            file.add(row[image], row[caption], None if negatives is None else row[negatives])


def _parsed(reader: Any, skipped: Counter[str]) -> Iterator[list[str]]:
    """The reader's rows; of what it cannot parse the lines are counted."""
    while True:
        line = reader.line_num
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            skipped["bad row: broken quotes, or a field too long"] += reader.line_num - line
        else:
            yield row


def _read_jsonl(path: Path, text: TextIO, file: CaptionFile) -> None:
    _read_records(path, (_json(line) for line in text if line.strip()), file)


def _read_json(path: Path, text: TextIO, file: CaptionFile) -> None:
    """COCO's captions, or a list of objects: what JSON lines are too, as the Karpathy splits."""
    content = _json(text.read())
    if isinstance(content, list):
        _read_records(path, content, file)
    else:
        _read_coco(path, content, file)


def _read_records(path: Path, records: Iterable[object], file: CaptionFile) -> None:
    first = True
    for record in records:
        if not isinstance(record, dict):
            file.skipped["bad row: not a JSON object"] += 1
            continue
        names = {name.lower(): name for name in record}
        try:
            image, caption = (names[name] for name in _columns(path, names))
        except FsckitError:
            if first:  # a file of another kind, rather than one bad row
                raise
            file.skipped["bad row: no image or no caption field"] += 1
            continue
        first = False
        negatives = names.get(NEGATIVES_COLUMN)
        file.add(record[image], record[caption], negatives and record[negatives])


def _read_parquet(path: Path, file: CaptionFile) -> None:
    import pyarrow as pa  # noqa: PLC0415 (half a second that the other formats need not wait)
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        with pq.ParquetFile(path) as parquet:
            names = {name.strip().lower(): name for name in parquet.schema_arrow.names}
            wanted = [names[name] for name in _columns(path, names)]
            if NEGATIVES_COLUMN in names:
                wanted.append(names[NEGATIVES_COLUMN])
            for batch in parquet.iter_batches(columns=wanted):
                columns = [batch.column(name).to_pylist() for name in wanted]
                for row in zip(*columns, strict=True):
                    file.add(*row)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        why = printable(str(error).partition("\n")[0][:200])
        raise FsckitError(f"{path}: not a whole Parquet file ({why})") from None


def _read_coco(path: Path, content: object, file: CaptionFile) -> None:
    record = content if isinstance(content, dict) else {}
    images, annotations = record.get("images"), record.get("annotations")
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise FsckitError(
            f"{path}: not COCO captions, which have the lists 'images' and 'annotations'; name a "
            f"file of JSON lines .jsonl"
        )
    names: dict[int | str, object] = {}
    for image in _objects(images, file.skipped):
        if isinstance(image.get("id"), int | str):
            names[image["id"]] = image.get("file_name")
        file.add(image.get("file_name"), [])
    for annotation in _objects(annotations, file.skipped):
        image_id = annotation.get("image_id")
        if isinstance(image_id, int | str) and image_id in names:
            file.add(names[image_id], annotation.get("caption"))
        else:
            file.skipped["bad row: an annotation of no image"] += 1


_READERS = {".tsv": _read_tsv, ".csv": _read_csv, ".jsonl": _read_jsonl, ".json": _read_json}


def _columns(path: Path, names: Iterable[str]) -> tuple[str, str]:
    """The image's and the caption's column among the lower-case `names`."""
    there = list(names)
    found = []
    for what, accepted in (("image", IMAGE_COLUMNS), ("caption", CAPTION_COLUMNS)):
        name = next((name for name in accepted if name in there), None)
        if name is None:
            shown = ", ".join(f"'{printable(name[:40])}'" for name in there[:20]) or "none"
            raise FsckitError(
                f"{path}: no {what} column: its columns are {shown}, where one of "
                f"{', '.join(accepted)} is needed"
            )
        found.append(name)
    return found[0], found[1]


def _add_caption(captions: dict[str, list[str]], item: object, published: list[str]) -> str | None:
    """Put a caption with the others of its image, or say why not."""
    caption = "" if item is None else item
    reason = None
    if not isinstance(caption, str):
        reason = "bad row: the caption is not text"
    elif not is_unicode(caption):
        reason = BAD_ENCODING
    elif not caption.strip():
        reason = "empty caption"
    elif caption.strip() in captions:
        reason = "duplicate row"
    elif len(captions) == MAX_CAPTIONS:
        reason = f"more than {MAX_CAPTIONS} captions of one image"
    else:
        captions[caption.strip()] = published
    return reason


def _strings(value: object) -> list[str] | None:
    """A list of strings, or a Python literal of one; None where it is neither."""
    if isinstance(value, str):
        if len(value) > MAX_LITERAL:
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about back-slashes in a stranger's string
                value = ast.literal_eval(value.strip())
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return None
    if not isinstance(value, list) or not all(isinstance(v, str) and is_unicode(v) for v in value):
        return None
    return [v.strip() for v in value if v.strip()]


def _json(text: str) -> Any:
    """The value of a JSON text, None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _objects(items: Iterable[object], skipped: Counter[str]) -> Iterator[dict[str, Any]]:
    for item in items:
        if isinstance(item, dict):
            yield item
        else:
            skipped["bad row: not a JSON object"] += 1
