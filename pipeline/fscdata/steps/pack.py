"""Packs images and captions into webdataset shards, one sample per image with all its captions."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Generic

from PIL import Image

from fscdata.base.errors import FsckitError
from fscdata.base.files import atomic_file
from fscdata.base.locks import folder_lock
from fscdata.base.progress import SILENT, Reporter
from fscdata.base.text import join_counts
from fscdata.captions import CaptionFile, Captions, Columns, read_beside, read_captions
from fscdata.captions.rows import add_negatives
from fscdata.steps.images import ImageFolder, Images, Key

if TYPE_CHECKING:
    from webdataset import TarWriter

# PIL's formats and their extensions in a shard; MPO is the JPEG variant of many cameras.
FORMATS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}
PER_SHARD = 10_000  # samples
# The shards are written here, and the folder is renamed to `shards` when all are complete.
# Otherwise make-negatives and the trainer would mistake a partial data set for a complete one.
STAGING = ".packing"


@dataclass
class PackReport:
    """What `pack` wrote.

    Attributes:
        samples, captions, published_negatives, shards, bytes: what is in the data set.
        unnamed_images: images without captions in the caption file.
        skipped: the skipped rows and images by reason.
        splits: what is in the data set of each split.
    """

    samples: int = 0
    captions: int = 0
    published_negatives: int = 0
    shards: int = 0
    bytes: int = 0
    unnamed_images: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    splits: dict[str, PackReport] = field(default_factory=dict)


def pack(
    dest: Path,
    images: Path,
    captions: Path | None = None,
    samples_per_shard: int = PER_SHARD,
    reporter: Reporter = SILENT,
    *,
    columns: Columns = Columns(),  # noqa: B008  (frozen)
    split: Mapping[str, float] | None = None,
    seed: int = 0,
) -> PackReport:
    """Write `DEST/shards/00000.tar …` in the order of the caption file.

    The bytes depend only on the images, the captions and the settings.

    Args:
        dest: the data set's folder.
        images: the folder of images.
        captions: the caption file; None to read the captions inside `images`: its metadata.csv or
            metadata.jsonl, or a .txt of the same name beside each image.
        samples_per_shard: images per tar.
        reporter: receives the progress.
        columns: how to read a table.
        split: the share of the images for each further data set, by name. `val` goes to
            `DEST-val`. The image's bytes and `seed` decide, so that copies of an image under
            different names are in the same data set, and more images do not move others.
        seed: the seed of the split.

    Raises:
        FsckitError: a data set already holds shards, there are no images or no captions, no image
            has a caption, or a split is empty.
    """
    if samples_per_shard < 1:
        raise FsckitError(f"`samples_per_shard` {samples_per_shard}: must be at least 1")
    shares = dict(split or {})
    _check_split(shares)
    dests = {name: dest.with_name(f"{dest.name}-{name}") for name in shares} | {"": dest}
    for folder in dests.values():
        if any(folder.glob("*.tar")) or any((folder / "shards").glob("*")):
            raise FsckitError(
                f"{folder}: already contains shards; choose another folder, or delete them first"
            )
    found = ImageFolder(images)
    file = (
        read_captions(captions, columns) if captions else read_beside(images, found.files, columns)
    )
    matches = _match(found, file)
    with ExitStack() as locks:
        for folder in dests.values():
            folder.mkdir(parents=True, exist_ok=True)
            locks.enter_context(folder_lock(folder))
        place = captions or images
        choose = _Split(shares, seed)
        return _pack(dests, found, matches, place, samples_per_shard, choose, reporter)


def pack_images(
    dest: Path, images: Images[Key], captions: Path, reporter: Reporter = SILENT
) -> PackReport:
    """Like `pack`, with images from any source; the caller holds the data set's lock."""
    matches = _match(images, read_captions(captions))
    return _pack({"": dest}, images, matches, captions, PER_SHARD, _Split({}, 0), reporter)


def _check_split(shares: dict[str, float]) -> None:
    for name, share in shares.items():
        if not re.fullmatch(r"\w[\w-]*", name, re.ASCII):
            raise FsckitError(f"`split` {name!r}: expected a name of letters, digits, '-' and '_'")
        if not 0 < share < 1:
            raise FsckitError(f"`split` {name}={share:g}: expected a share between 0 and 1")
    if sum(shares.values()) >= 1:
        raise FsckitError("`split`: the shares add up to 1 or more; leave some for training")


@dataclass(frozen=True)
class _Split:
    """Chooses a data set for an image by a hash of the seed and its bytes."""

    shares: dict[str, float]
    seed: int

    def __call__(self, image: bytes) -> str:
        """The split's name; empty for the main data set."""
        if not self.shares:
            return ""
        digest = hashlib.blake2b(f"{self.seed}\0".encode(), digest_size=8)
        digest.update(image)
        place, end = int.from_bytes(digest.digest(), "little") / 2**64, 0.0
        for name, share in self.shares.items():
            end += share
            if place < end:
                return name
        return ""


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


def _match(images: Images[Key], file: CaptionFile) -> _Matches[Key]:
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
        for caption, published in own.items():
            add_negatives(others, caption, published)
    return _Matches(matches, skipped, len(images.files - matches.keys()))


def _pack(
    dests: dict[str, Path],
    images: Images[Key],
    matches: _Matches[Key],
    captions: Path,
    per_shard: int,
    split: _Split,
    reporter: Reporter,
) -> PackReport:
    skipped = matches.skipped
    with ExitStack() as stack:
        folders = {name: stack.enter_context(_staging(dest)) for name, dest in dests.items()}
        writers = {
            name: stack.enter_context(closing(_Writer(folder, per_shard, len(matches.images))))
            for name, folder in folders.items()
        }
        for sample in _samples(images, matches, f"packing {captions.name}", reporter):
            if isinstance(sample, str):
                skipped[sample] += 1
            else:
                writers[split(sample.image)].write(sample)
        for writer in writers.values():
            writer.close()
        reports = {name: writer.report for name, writer in writers.items()}
        if not any(report.samples for report in reports.values()):
            raise FsckitError(
                f"{captions}: no caption matches an image in {images.place} "
                f"({join_counts(skipped)}); check the names in both"
            )
        if empty := [name or "the rest" for name, report in reports.items() if not report.samples]:
            raise FsckitError(
                f"`split`: no image falls into {empty[0]}; choose a larger share, or another `seed`"
            )
        # The main data set comes last: if a kill leaves splits alone, a rerun names them.
        for name, folder in folders.items():
            folder.rename(dests[name] / "shards")
    report = reports.pop("")
    report.unnamed_images, report.skipped, report.splits = matches.unnamed, skipped, reports
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


class _Writer:
    """Writes samples to a folder's shards; names have enough digits for `at_most` samples."""

    def __init__(self, folder: Path, per_shard: int, at_most: int) -> None:
        self.report = PackReport()
        self._folder = folder
        self._per_shard = per_shard
        self._shard_width = max(5, len(str((at_most - 1) // per_shard)))
        self._index_width = max(4, len(str(per_shard - 1)))
        self._open_shard = ExitStack()
        self._tar: TarWriter | None = None

    def write(self, sample: _Sample) -> None:
        """Write a sample, to a new shard if the last one is full."""
        report = self.report
        index = report.samples % self._per_shard
        if index == 0:
            self._open_shard.close()
            shard = f"{report.shards:0{self._shard_width}d}"
            self._tar = self._open_shard.enter_context(_tar_writer(self._folder / f"{shard}.tar"))
            report.shards += 1
        assert self._tar is not None
        shard = f"{report.shards - 1:0{self._shard_width}d}"
        self._tar.write(_members(f"{shard}{index:0{self._index_width}d}", sample))
        report.samples += 1
        report.captions += len(sample.captions)
        report.published_negatives += sum(map(len, sample.captions.values()))

    def close(self) -> None:
        """Complete the last shard and count the bytes."""
        self._open_shard.close()
        if self._folder.is_dir():  # closed again after it was renamed
            self.report.bytes = sum(path.stat().st_size for path in self._folder.iterdir())


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
