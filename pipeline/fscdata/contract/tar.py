"""The samples of a webdataset tar: the images' byte ranges and the captions."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fscdata.base.errors import FsckitError
from fscdata.base.paths import DataPath, access, open_binary
from fscdata.base.text import is_unicode, printable

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
MAX_TEXT_BYTES = 16 * 2**20  # a larger json or txt is not a caption file
MAX_CAPTIONS = 1000  # per sample


@dataclass(frozen=True)
class CaptionSource:
    """Where a sample's captions come from.

    By default: the list `captions` in its json, else `caption` in its json, else its `.txt`.
    `json_key` names another json field, a string or a list of strings. With `folder`, captions are
    the lines of `<folder>/<key>.txt`.
    """

    json_key: str | None = None
    folder: Path | None = None

    def __str__(self) -> str:
        # Only the folder's name is recorded: its path does not affect the tables, and a training
        # machine may not have it.
        if self.folder is not None:
            return f"folder:{self.folder.resolve().name}"
        return f"json:{self.json_key}" if self.json_key else "default"

    @classmethod
    def inside_tar(cls, text: str) -> CaptionSource | None:
        """Parse what `str()` returned; None if the captions came from a folder."""
        kind, _, value = text.partition(":")
        return None if kind == "folder" else cls(json_key=value or None)


@dataclass(frozen=True, slots=True)
class TarSample:
    """One sample.

    Attributes:
        key: the members' common name.
        image_ext, image_offset, image_size: the image's extension and byte range.
        captions: (index in the source's list, caption); an unusable caption leaves a gap.
        published: negatives that came with the data, by caption index.
    """

    key: str
    image_ext: str
    image_offset: int
    image_size: int
    captions: list[tuple[int, str]]
    published: dict[int, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class TarIndex:
    """A tar's samples in tar order.

    `without` counts the samples and captions left out, by reason. `digest` covers the members'
    names, offsets and sizes, `captions_digest` the captions and their published negatives.
    """

    samples: list[TarSample]
    without: dict[str, int]
    digest: str
    captions_digest: str


@dataclass
class _Group:
    """The members of one sample."""

    image: tuple[str, int, int] | None = None
    json: bytes | None = None
    text: bytes | None = None
    oversized: bool = False


@dataclass(frozen=True)
class _Captions:
    """The captions of one sample, as in `TarSample`; `without` counts those left out, by reason."""

    captions: list[tuple[int, str]]
    published: dict[int, list[str]]
    without: Counter[str]


def index_tar(path: DataPath, source: CaptionSource = CaptionSource()) -> TarIndex:
    """Read a tar's headers and captions; the images of a local tar are not read.

    Raises:
        FsckitError: the tar cannot be read or is damaged; a key has a dot, is not UTF-8 or occurs
            twice.
    """
    try:
        with (
            access(path, "read"),
            open_binary(path) as file,
            tarfile.open(fileobj=file, mode="r:") as tar,
        ):
            groups, digest = _read_members(tar, path)
            _check_end(tar)
    except FsckitError:  # also a ValueError
        raise
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise FsckitError(
            f"{path}: the tar is damaged ({error}); download or pack it again"
        ) from None

    without: Counter[str] = Counter()
    samples = []
    captions_digest = hashlib.blake2b(digest_size=16)
    for key, group in groups.items():
        if group.image is None:
            without["sample: no image"] += 1
            continue
        found = _captions(key, group, source)
        without.update(found.without)
        for index, caption in found.captions:
            for text in (caption, *found.published.get(index, ())):
                captions_digest.update(b"%s\0%d\0%s\0" % (key.encode(), index, text.encode()))
        if found.captions:
            samples.append(TarSample(key, *group.image, found.captions, found.published))
    return TarIndex(samples, dict(sorted(without.items())), digest, captions_digest.hexdigest())


def _read_members(tar: tarfile.TarFile, path: DataPath) -> tuple[dict[str, _Group], str]:
    """The members of each sample by key, and the digest of their names, offsets and sizes."""
    groups: dict[str, _Group] = {}
    digest = hashlib.blake2b(digest_size=16)
    previous = None
    for member in tar:
        name = member.name
        if not is_unicode(name):
            raise FsckitError(
                f"{path}: the member name '{printable(name)}' is not UTF-8; rename it and pack the "
                f"tar again"
            )
        key, extension = split_member(name)
        if not member.isfile() or not key or not extension:
            continue  # folders, links and files outside any sample
        if "." in extension:
            if extension.rpartition(".")[2] in (*IMAGE_EXTENSIONS, "json", "txt"):
                raise FsckitError(
                    f"{path}: member '{printable(name)}' has a dot in its key, where webdataset "
                    f"splits names; rename it and pack the tar again"
                )
            continue
        # A sample's members must be adjacent: webdataset starts a new sample when the key changes.
        if key != previous and key in groups:
            raise _duplicate(path, key)
        previous = key
        group = groups.setdefault(key, _Group())
        digest.update(b"%s\0%d\0%d\0" % (name.encode(), member.offset_data, member.size))
        if extension in IMAGE_EXTENSIONS:
            if group.image is not None:
                raise _duplicate(path, key)
            group.image = (extension, member.offset_data, member.size)
        elif extension in ("json", "txt") and member.size > MAX_TEXT_BYTES:
            group.oversized = True
        elif extension in ("json", "txt"):
            content = tar.extractfile(member)
            data = content.read() if content else b""
            if extension == "json":
                group.json = data
            else:
                group.text = data
    return groups, digest.hexdigest()


def _duplicate(path: DataPath, key: str) -> FsckitError:
    return FsckitError(
        f"{path}: the key '{printable(key)}' occurs twice in this tar; rename one and pack again"
    )


def split_member(name: str) -> tuple[str, str]:
    """A member's key and lower-case extension, split where webdataset splits.

    The key is empty if the file is not part of a sample.
    """
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return folder + slash + stem if stem else "", extension.lower()


def captions_inside(
    key: str, members: Mapping[str, bytes], source: CaptionSource
) -> dict[int, str]:
    """A sample's captions by index; `members` holds file contents by extension."""
    small = {name: c for name, c in members.items() if len(c) <= MAX_TEXT_BYTES}
    group = _Group(json=small.get("json"), text=small.get("txt"))
    return dict(_captions(key, group, source).captions)


def _check_end(tar: tarfile.TarFile) -> None:
    """Check for the zeros that end a tar: tarfile silently stops at garbage or a truncation too."""
    file = tar.fileobj
    assert file is not None
    file.seek(tar.offset)
    block = file.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE or block.strip(b"\0"):
        raise tarfile.ReadError(f"no member or end marker at byte {tar.offset}")


def _captions(key: str, group: _Group, source: CaptionSource) -> _Captions:
    without: Counter[str] = Counter()
    record: Any = None
    if group.json is not None:
        try:
            record = json.loads(group.json)
        except (ValueError, RecursionError):
            without["sample: unreadable json"] += 1
    record = record if isinstance(record, dict) else {}
    raw = _raw_captions(key, group, record, source)
    captions = []
    if len(raw) > MAX_CAPTIONS:
        without[f"caption: beyond {MAX_CAPTIONS} of one sample"] += len(raw) - MAX_CAPTIONS
    for index, item in enumerate(raw[:MAX_CAPTIONS]):
        caption, reason = _clean(item)
        if caption is None:
            without[f"caption: {reason}"] += 1
        else:
            captions.append((index, caption))
    if not raw:
        large = f"sample: json or txt larger than {MAX_TEXT_BYTES >> 20} MB"
        without[large if group.oversized else "sample: no caption"] += 1
    return _Captions(captions, _published(record), without)


def _raw_captions(
    key: str, group: _Group, record: dict[str, Any], source: CaptionSource
) -> list[Any]:
    """The unchecked values where captions are expected, of any type."""
    if source.folder is not None:
        file = source.folder / f"{key}.txt"
        # Keys are untrusted: one with ".." must not lead outside the folder.
        inside = file.resolve().is_relative_to(source.folder.resolve())
        return _lines(file.read_bytes()) if inside and file.is_file() else []
    for name in [source.json_key] if source.json_key else ["captions", "caption"]:
        value = record.get(name)
        if value is not None and value != []:
            return value if isinstance(value, list) else [value]
    return [group.text] if source.json_key is None and group.text is not None else []


def _published(record: dict[str, Any]) -> dict[int, list[str]]:
    """Negatives that came with the data, by caption index."""
    lists = record.get("published_negatives")
    return {
        index: [text for text in item if isinstance(text, str) and is_unicode(text)]
        for index, item in enumerate(lists if isinstance(lists, list) else [])
        if isinstance(item, list)
    }


def _lines(data: bytes) -> list[bytes]:
    return [line for line in data.splitlines() if line.strip()]


def _clean(item: object) -> tuple[str | None, str]:
    """The stripped caption, or None and the reason it is unusable."""
    if isinstance(item, bytes):
        try:
            item = item.decode()
        except UnicodeDecodeError:
            return None, "not UTF-8"
    if not isinstance(item, str):
        return None, "not a string"
    if not is_unicode(item):
        return None, "not UTF-8"
    item = item.strip()
    return (item, "") if item else (None, "empty")
