"""Packs images and captions into webdataset shards, one sample per image with all its captions."""

from __future__ import annotations

import json
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Generic

from PIL import Image

from fscdata.base.errors import FsckitError
from fscdata.base.files import atomic_file
from fscdata.base.locks import folder_lock
from fscdata.base.progress import SILENT, Reporter
from fscdata.base.text import join_counts
from fscdata.captions import read_captions
from fscdata.steps.images import ImageFolder, Images, Key

if TYPE_CHECKING:
    from webdataset import TarWriter

# PIL's formats and their extensions in a shard; MPO is the JPEG variant of many cameras.
FORMATS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}
PER_SHARD = 10_000  # samples
# The shards are written here, and the folder is renamed to `shards` when all are complete.
# Otherwise make-negatives and the trainer would mistake a partial data set for a complete one.
STAGING = ".packing"

Captions = dict[str, list[str]]  # caption → its published negatives


@dataclass
class PackReport:
    """What `pack` wrote; `skipped` counts the skipped rows and images by reason."""

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
    reporter: Reporter = SILENT,
) -> PackReport:
    """Write `DEST/shards/00000.tar …` in the order of the caption file.

    The bytes depend only on the images, the caption file and `samples_per_shard`.

    Raises:
        FsckitError: `dest` already holds shards, there are no images or no captions, or no image
            has a caption.
    """
    if samples_per_shard < 1:
        raise FsckitError(f"`samples_per_shard` {samples_per_shard}: must be at least 1")
    if any(dest.glob("*.tar")) or any((dest / "shards").glob("*")):
        raise FsckitError(
            f"{dest}: already contains shards; choose another folder, or delete them first"
        )
    folder = ImageFolder(images)
    matches = _match(folder, captions)
    dest.mkdir(parents=True, exist_ok=True)
    with folder_lock(dest):
        return _pack(dest, folder, matches, captions, samples_per_shard, reporter)


def pack_images(
    dest: Path, images: Images[Key], captions: Path, reporter: Reporter = SILENT
) -> PackReport:
    """Like `pack`, with images from any source; the caller holds the data set's lock."""
    return _pack(dest, images, _match(images, captions), captions, PER_SHARD, reporter)


@dataclass(frozen=True)
class _Matches(Generic[Key]):
    """The images that the caption file names.

    Attributes:
        images: image → its name in the caption file, and its captions.
        skipped: number of skipped rows of the caption file per reason.
        unnamed: images that the caption file does not name.
    """

    images: dict[Key, tuple[str, Captions]]
    skipped: Counter[str]
    unnamed: int


def _match(images: Images[Key], captions: Path) -> _Matches[Key]:
    file = read_captions(captions)
    skipped = file.skipped
    matches: dict[Key, tuple[str, Captions]] = {}
    for name, own in file.images.items():
        image = images.resolve(name)
        if isinstance(image, str):
            skipped[image] += 1
            continue
        _, others = matches.setdefault(image, (name, {}))  # names may share an image
        if repeated := own.keys() & others.keys():
            skipped["duplicate row"] += len(repeated)
        others.update(own)
    return _Matches(matches, skipped, len(images.files - matches.keys()))


def _pack(
    dest: Path,
    images: Images[Key],
    matches: _Matches[Key],
    captions: Path,
    per_shard: int,
    reporter: Reporter,
) -> PackReport:
    with _staging(dest) as staging:
        samples = _samples(images, matches, f"packing {captions.name}", reporter)
        report = _write_shards(staging, samples, per_shard, len(matches.images))
        report.unnamed_images = matches.unnamed
        report.skipped = matches.skipped + report.skipped
        if not report.samples:
            reasons = join_counts(report.skipped)
            raise FsckitError(
                f"{captions}: no caption matches an image in {images.place} ({reasons}); check "
                f"the names in both"
            )
        staging.rename(dest / "shards")
    return report


@dataclass(frozen=True)
class _Sample:
    name: str
    extension: str
    image: bytes
    captions: Captions


def _samples(
    images: Images[Key], matches: _Matches[Key], stage: str, reporter: Reporter
) -> Iterator[_Sample | str]:
    """Each image's sample, or the reason it is skipped."""
    progress, total = reporter.counter(stage, "images"), len(matches.images)
    with_captions = [image for image, (_, captions) in matches.images.items() if captions]
    without = total - len(with_captions)
    yield from ["no caption"] * without
    for done, (image, file) in enumerate(images.read(with_captions), without + 1):
        content = _read_image(file)
        if isinstance(content, str):
            yield content
        else:
            name, captions = matches.images[image]
            yield _Sample(name, *content, captions)
        progress(done, total)


def _read_image(file: IO[bytes]) -> tuple[str, bytes] | str:
    """An image's extension and bytes, or the reason it is skipped; only its header is decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            extension = FORMATS[Image.open(file, formats=["JPEG", "PNG", "WEBP"]).format or ""]
    except Image.DecompressionBombError:  # PIL's limit, 179 million pixels
        return "image of too many pixels"
    except Exception:
        # PIL's parsers raise errors of any type on untrusted bytes; all mean the same here.
        return "unreadable image"
    file.seek(0)
    return extension, file.read()


def _write_shards(
    folder: Path, samples: Iterator[_Sample | str], per_shard: int, at_most: int
) -> PackReport:
    """Write the samples to shards; names have enough digits for `at_most` samples."""
    shard_width = max(5, len(str((at_most - 1) // per_shard)))
    index_width = max(4, len(str(per_shard - 1)))
    report = PackReport()
    with ExitStack() as open_shard:
        for sample in samples:
            if isinstance(sample, str):
                report.skipped[sample] += 1
                continue
            index = report.samples % per_shard
            if index == 0:
                open_shard.close()
                shard = f"{report.shards:0{shard_width}d}"
                tar = open_shard.enter_context(_tar_writer(folder / f"{shard}.tar"))
                report.shards += 1
            tar.write(_members(f"{shard}{index:0{index_width}d}", sample))
            report.samples += 1
            report.captions += len(sample.captions)
            report.published_negatives += sum(map(len, sample.captions.values()))
    report.bytes = sum(path.stat().st_size for path in folder.iterdir())
    return report


@contextmanager
def _tar_writer(path: Path) -> Iterator[TarWriter]:
    # webdataset imports torch if it is installed, which takes 2 s; only packing needs it.
    from webdataset import TarWriter  # noqa: PLC0415

    with (
        atomic_file(path) as file,
        # Fixed owners and times, so that equal input gives equal bytes.
        TarWriter(file, user="", group="", mode=0o444, mtime=0, encoder=False) as tar,
    ):
        yield tar


def _members(key: str, sample: _Sample) -> dict[str, str | bytes]:
    """A sample as webdataset writes it; open_clip's own loader reads the .txt."""
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
    """A folder to write to; it is removed when the block ends, unless it was renamed."""
    folder = dest / STAGING
    shutil.rmtree(folder, ignore_errors=True)  # left by a killed run
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
