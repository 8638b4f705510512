"""Where things lie in a webdataset tar: the images' byte ranges and the captions."""

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
MAX_TEXT_BYTES = 16 * 2**20  # a json or txt larger than this holds no captions
MAX_CAPTIONS = 1000  # of one sample


@dataclass(frozen=True)
class CaptionSource:
    """Where captions are taken from.

    By default: `captions` (a list) of the sample's json, else its `caption`, else its `.txt`.
    With `json_key` that field of the json alone, a string or a list of strings; with `folder` the
    lines of `<folder>/<key>.txt`.
    """

    json_key: str | None = None
    folder: Path | None = None

    def __str__(self) -> str:
        # Of a folder its name alone: where it lies is not how a table was made.
        if self.folder is not None:
            return f"folder:{self.folder.resolve().name}"
        return f"json:{self.json_key}" if self.json_key else "default"

    @classmethod
    def inside_tar(cls, text: str) -> CaptionSource | None:
        """The source that `str()` gave, or None where the captions did not come from the tar."""
        kind, _, value = text.partition(":")
        return None if kind == "folder" else cls(json_key=value or None)


@dataclass(frozen=True, slots=True)
class TarSample:
    """One sample: `captions` pairs each caption with its index in the source's list."""

    key: str
    image_ext: str
    image_offset: int
    image_size: int
    captions: list[tuple[int, str]]
    published: dict[int, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class TarIndex:
    """A tar's samples in its order, and what was left out by reason.

    `digest` covers the members' names, places and sizes, `captions_digest` the captions
    and their published negatives.
    """

    samples: list[TarSample]
    without: dict[str, int]
    digest: str
    captions_digest: str


@dataclass
class _Group:
    image: tuple[str, int, int] | None = None
    json: bytes | None = None
    text: bytes | None = None
    oversized: bool = False


def index_tar(path: DataPath, source: CaptionSource = CaptionSource()) -> TarIndex:
    """Read a tar's headers and captions; a local tar's images are never read.

    Raises:
        FsckitError: the tar cannot be read or is damaged, a key has a dot or is not UTF-8, or
            comes twice.
    """
    groups: dict[str, _Group] = {}
    digest = hashlib.blake2b(digest_size=16)
    try:
        with (
            access(path, "read"),
            open_binary(path) as file,
            tarfile.open(fileobj=file, mode="r:") as tar,
        ):
            _read_members(tar, path, groups, digest)
            _check_end(tar)
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise FsckitError(f"{path}: the tar is damaged ({error}); fetch or pack it again") from None

    without: Counter[str] = Counter()
    samples = []
    of_captions = hashlib.blake2b(digest_size=16)
    for key, group in groups.items():
        if group.image is None:
            without["sample: no image"] += 1
            continue
        captions, published, problems = _captions(key, group, source)
        without.update(problems)
        for index, caption in captions:
            for text in (caption, *published.get(index, ())):
                of_captions.update(b"%s\0%d\0%s\0" % (key.encode(), index, text.encode()))
        if captions:
            samples.append(TarSample(key, *group.image, captions, published))
    return TarIndex(
        samples, dict(sorted(without.items())), digest.hexdigest(), of_captions.hexdigest()
    )


def _read_members(
    tar: tarfile.TarFile, path: DataPath, groups: dict[str, _Group], digest: hashlib.blake2b
) -> None:
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
            continue  # folders, links and files that belong to no sample
        if "." in extension:
            if extension.rpartition(".")[2] in (*IMAGE_EXTENSIONS, "json", "txt"):
                raise FsckitError(
                    f"{path}: member '{printable(name)}' has a dot in its key, where webdataset "
                    f"cuts names; rename it and pack the tar again"
                )
            continue
        if key != previous and key in groups:
            raise FsckitError(f"{path}: the key '{printable(key)}' comes twice in this tar")
        previous = key
        group = groups.setdefault(key, _Group())
        digest.update(b"%s\0%d\0%d\0" % (name.encode(), member.offset_data, member.size))
        if extension in IMAGE_EXTENSIONS:
            if group.image is not None:
                raise FsckitError(f"{path}: the key '{printable(key)}' comes twice in this tar")
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


def split_member(name: str) -> tuple[str, str]:
    """A member's key and its extension in lower case, cut where webdataset cuts; the key is empty
    where a file belongs to no sample."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return folder + slash + stem if stem else "", extension.lower()


def captions_inside(
    key: str, members: Mapping[str, bytes], source: CaptionSource
) -> dict[int, str]:
    """A sample's captions by their indices, from its members by extension."""
    small = {name: c for name, c in members.items() if len(c) <= MAX_TEXT_BYTES}
    group = _Group(json=small.get("json"), text=small.get("txt"))
    return dict(_captions(key, group, source)[0])


def _check_end(tar: tarfile.TarFile) -> None:
    """A tar ends with zeros; tarfile takes a missing end or garbage between members for it."""
    file = tar.fileobj
    assert file is not None
    file.seek(tar.offset)
    block = file.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE or block.strip(b"\0"):
        raise tarfile.ReadError(f"no member and no end at byte {tar.offset}")


def _captions(
    key: str, group: _Group, source: CaptionSource
) -> tuple[list[tuple[int, str]], dict[int, list[str]], Counter[str]]:
    """The sample's captions with their indices, its published negatives, and what was wrong."""
    problems: Counter[str] = Counter()
    record: Any = None
    if group.json is not None:
        try:
            record = json.loads(group.json)
        except (ValueError, RecursionError):
            problems["sample: unreadable json"] += 1
    record = record if isinstance(record, dict) else {}
    raw = _raw_captions(key, group, record, source)
    captions = []
    if len(raw) > MAX_CAPTIONS:
        problems[f"caption: beyond {MAX_CAPTIONS} of one sample"] += len(raw) - MAX_CAPTIONS
    for index, item in enumerate(raw[:MAX_CAPTIONS]):
        caption, problem = _clean(item)
        if caption is None:
            problems[f"caption: {problem}"] += 1
        else:
            captions.append((index, caption))
    if not raw:
        large = f"sample: json or txt larger than {MAX_TEXT_BYTES >> 20} MB"
        problems[large if group.oversized else "sample: no caption"] += 1
    return captions, _published(record), problems


def _raw_captions(
    key: str, group: _Group, record: dict[str, Any], source: CaptionSource
) -> list[Any]:
    """What stands where the captions should, whatever it is."""
    if source.folder is not None:
        file = source.folder / f"{key}.txt"
        # A key is a stranger's word: it may not lead out of the folder.
        inside = file.resolve().is_relative_to(source.folder.resolve())
        return _lines(file.read_bytes()) if inside and file.is_file() else []
    for name in [source.json_key] if source.json_key else ["captions", "caption"]:
        value = record.get(name)
        if value is not None and value != []:
            return value if isinstance(value, list) else [value]
    return [group.text] if source.json_key is None and group.text is not None else []


def _published(record: dict[str, Any]) -> dict[int, list[str]]:
    """Negatives that came with the captions, by the index of the caption."""
    lists = record.get("published_negatives")
    return {
        index: [text for text in item if isinstance(text, str) and is_unicode(text)]
        for index, item in enumerate(lists if isinstance(lists, list) else [])
        if isinstance(item, list)
    }


def _lines(data: bytes) -> list[bytes]:
    return [line for line in data.splitlines() if line.strip()]


def _clean(item: object) -> tuple[str | None, str]:
    """A caption stripped of white space at its ends, or the reason why it is none."""
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
