"""Pictures and captions → webdataset shards, one sample an image with all its captions."""

from __future__ import annotations

import json
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import IO

from fscdata.base.errors import FsckitError
from fscdata.base.files import atomic_file
from fscdata.base.locks import folder_lock
from fscdata.captions import read_captions
from fscdata.steps.pictures import Key, PictureFolder, Pictures

# PIL's formats and the extension that each has in a shard; MPO is the JPEG of many cameras.
FORMATS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}
PER_SHARD = 10_000  # samples
STAGING = ".packing"  # the folder that becomes `shards` once all of it is written

Captions = dict[str, list[str]]  # caption → its published negatives
Found = dict[Key, tuple[str, Captions]]  # picture → (its name in the caption file, captions)
Progress = Callable[[int, int], None]


@dataclass
class PackReport:
    """What `pack` wrote, and by reason what it left out."""

    samples: int = 0
    captions: int = 0
    published_negatives: int = 0
    shards: int = 0
    bytes: int = 0
    unnamed_images: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


def pack(
    dest: Path,
    images: Path,
    captions: Path,
    samples_per_shard: int = PER_SHARD,
    progress: Progress = lambda done, total: None,
) -> PackReport:
    """Write `DEST/shards/00000.tar …` in the order of the caption file.

    The bytes are a function of the images, the caption file and `samples_per_shard` alone. The
    shards get their folder's name together, when all are written. `progress` is told how many
    images of how many are done.

    Raises:
        FsckitError: `dest` holds shards already, there is no picture or no caption, or no
            picture has both.
    """
    if samples_per_shard < 1:
        raise FsckitError(f"samples per shard: {samples_per_shard} is not a positive number")
    if any(dest.glob("*.tar")) or any((dest / "shards").glob("*")):
        raise FsckitError(
            f"{dest}: there are shards in it; pack into another folder, or delete them first"
        )
    report = PackReport()
    pictures = PictureFolder(images)
    found = _find(pictures, captions, report)
    dest.mkdir(parents=True, exist_ok=True)
    with folder_lock(dest):
        _pack(dest, pictures, found, captions, samples_per_shard, report, progress)
    return report


def pack_pictures(
    dest: Path,
    pictures: Pictures[Key],
    captions: Path,
    progress: Progress = lambda done, total: None,
) -> PackReport:
    """As `pack`, of pictures that lie anywhere, for a caller who holds the lock of the data set."""
    report = PackReport()
    found = _find(pictures, captions, report)
    _pack(dest, pictures, found, captions, PER_SHARD, report, progress)
    return report


def _find(pictures: Pictures[Key], captions: Path, report: PackReport) -> Found[Key]:
    """The picture of each name in the caption file."""
    file = read_captions(captions)
    report.skipped.update(file.skipped)
    found: Found[Key] = {}
    for name, own in file.images.items():
        picture = pictures.resolve(name)
        if isinstance(picture, str):
            report.skipped[picture] += 1
            continue
        _, theirs = found.setdefault(picture, (name, {}))  # two names may mean one picture
        if twice := own.keys() & theirs.keys():
            report.skipped["duplicate row"] += len(twice)
        theirs.update(own)
    report.unnamed_images = len(pictures.pictures - found.keys())
    return found


def _pack(
    dest: Path,
    pictures: Pictures[Key],
    found: Found[Key],
    captions: Path,
    per_shard: int,
    report: PackReport,
    progress: Progress,
) -> None:
    with _staging(dest) as staging:
        samples = _samples(pictures, found, report, progress)
        _write_shards(staging, samples, per_shard, len(found), report)
        if not report.samples:
            reasons = ", ".join(f"{reason} {n}" for reason, n in report.skipped.items())
            raise FsckitError(
                f"{captions}: nothing to pack with the pictures of {pictures.place}: {reasons}"
            )
        staging.rename(dest / "shards")


@dataclass(frozen=True)
class _Sample:
    name: str
    extension: str
    image: bytes
    captions: Captions


def _samples(
    pictures: Pictures[Key], found: Found[Key], report: PackReport, progress: Progress
) -> Iterator[_Sample]:
    """The images that can be packed, in order; the others are counted by reason."""
    wanted = [picture for picture, (_, captions) in found.items() if captions]
    without = len(found) - len(wanted)
    if without:
        report.skipped["no caption"] += without
    for done, (picture, file) in enumerate(pictures.read(wanted), without + 1):
        read = _read_image(file)
        if isinstance(read, str):
            report.skipped[read] += 1
        else:
            name, captions = found[picture]
            yield _Sample(name, *read, captions)
        progress(done, len(found))


def _read_image(file: IO[bytes]) -> tuple[str, bytes] | str:
    """The extension and the bytes of a picture, of which only the header is looked into."""
    from PIL import Image  # noqa: PLC0415

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            extension = FORMATS[Image.open(file, formats=["JPEG", "PNG", "WEBP"]).format or ""]
    except Image.DecompressionBombError:  # PIL's limit, 179 million pixels
        return "image of too many pixels"
    except Exception:
        # PIL's parsers raise errors of any kind on a stranger's bytes; all mean the same.
        return "unreadable image"
    file.seek(0)
    return extension, file.read()


def _write_shards(
    folder: Path, samples: Iterator[_Sample], per_shard: int, at_most: int, report: PackReport
) -> None:
    from webdataset import TarWriter  # noqa: PLC0415 (it imports torch where there is one)

    shard_width = max(5, len(str((at_most - 1) // per_shard)))
    index_width = max(4, len(str(per_shard - 1)))
    first = next(samples, None)
    while first is not None:
        shard = f"{report.shards:0{shard_width}d}"
        path = folder / f"{shard}.tar"
        with (
            atomic_file(path) as file,
            # Names and times fixed, so that equal input gives equal bytes.
            TarWriter(file, user="", group="", mode=0o444, mtime=0, encoder=False) as tar,
        ):
            for index, sample in enumerate(chain([first], islice(samples, per_shard - 1))):
                tar.write(_members(f"{shard}{index:0{index_width}d}", sample))
                report.samples += 1
                report.captions += len(sample.captions)
                report.published_negatives += sum(map(len, sample.captions.values()))
        report.shards += 1
        report.bytes += path.stat().st_size
        first = next(samples, None)


def _members(key: str, sample: _Sample) -> dict[str, str | bytes]:
    """A sample as webdataset writes it; the .txt is what open_clip's own loader reads."""
    captions = list(sample.captions)
    record: dict[str, object] = {"key": key, "captions": captions, "file": sample.name}
    if any(sample.captions.values()):
        record["published_negatives"] = list(sample.captions.values())
    return {
        "__key__": key,
        sample.extension: sample.image,
        "json": json.dumps(record, ensure_ascii=False).encode(),
        "txt": captions[0].encode(),
    }


@contextmanager
def _staging(dest: Path) -> Iterator[Path]:
    """A folder to write in, which is gone when the block ends unless it was renamed."""
    folder = dest / STAGING
    shutil.rmtree(folder, ignore_errors=True)  # what a killed run left
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
