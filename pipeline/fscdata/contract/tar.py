"""Where things lie in a webdataset tar: the images' byte ranges and the captions."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fscdata.contract.errors import FsckitError

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
MAX_TEXT_BYTES = 16 * 2**20  # a caption member larger than this is not a caption


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
        if self.folder is not None:
            return f"folder:{self.folder.resolve()}"
        return f"json:{self.json_key}" if self.json_key else "default"

    @classmethod
    def parse(cls, text: str) -> CaptionSource:
        """The inverse of `str()`, as found in a table's provenance."""
        kind, _, value = text.partition(":")
        if kind == "folder":
            return cls(folder=Path(value))
        return cls(json_key=value or None)


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
    """A tar's samples in its order, what was left out by reason, and a digest of what was read."""

    samples: list[TarSample]
    without: dict[str, int]
    digest: str


@dataclass
class _Group:
    image: tuple[str, int, int] | None = None
    json: bytes | None = None
    text: bytes | None = None


def index_tar(path: Path, source: CaptionSource = CaptionSource()) -> TarIndex:
    """Read a tar's headers and captions, never its images.

    Raises:
        FsckitError: the tar is damaged, a key has a dot, or a key comes twice.
    """
    groups: dict[str, _Group] = {}
    digest = hashlib.blake2b(digest_size=16)
    try:
        with tarfile.open(path, "r:") as tar:
            _read_members(tar, path, groups, digest)
            _check_end(tar)
    except (tarfile.TarError, EOFError) as error:
        raise FsckitError(f"{path}: the tar is damaged ({error}); fetch or pack it again") from None
    except OSError as error:
        raise FsckitError(f"{path}: cannot be read ({error.strerror or error})") from None

    without: Counter[str] = Counter()
    samples = []
    for key, group in groups.items():
        if group.image is None:
            without["sample: no image"] += 1
            continue
        captions, published, problems = _captions(key, group, source)
        without.update(problems)
        for index, caption in captions:
            digest.update(b"%d\0%s\0" % (index, caption.encode()))
        if captions:
            samples.append(TarSample(key, *group.image, captions, published))
    return TarIndex(samples, dict(sorted(without.items())), digest.hexdigest())


def _read_members(
    tar: tarfile.TarFile, path: Path, groups: dict[str, _Group], digest: hashlib.blake2b
) -> None:
    previous = None
    for member in tar:
        name = member.name
        folder, slash, base = name.rpartition("/")
        stem, _, extension = base.partition(".")
        extension = extension.lower()
        if not member.isfile() or not stem or not extension:
            continue  # folders, links and files that belong to no sample
        if "." in extension:
            if extension.rpartition(".")[2] in (*IMAGE_EXTENSIONS, "json", "txt"):
                raise FsckitError(
                    f"{path}: member '{printable(name)}' has a dot in its key, where webdataset "
                    f"cuts names; rename it and pack the tar again"
                )
            continue
        key = folder + slash + stem
        if key != previous and key in groups:
            raise FsckitError(f"{path}: the key '{printable(key)}' comes twice in this tar")
        previous = key
        group = groups.setdefault(key, _Group())
        digest.update(
            b"%s\0%d\0%d\0"
            % (name.encode(errors="surrogateescape"), member.offset_data, member.size)
        )
        if extension in IMAGE_EXTENSIONS:
            if group.image is not None:
                raise FsckitError(f"{path}: the key '{printable(key)}' comes twice in this tar")
            group.image = (extension, member.offset_data, member.size)
        elif extension in ("json", "txt") and member.size <= MAX_TEXT_BYTES:
            content = tar.extractfile(member)
            data = content.read() if content else b""
            if extension == "json":
                group.json = data
            else:
                group.text = data


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
    for index, item in enumerate(raw):
        caption, problem = _clean(item)
        if caption is None:
            problems[f"caption: {problem}"] += 1
        else:
            captions.append((index, caption))
    if not raw:
        problems["sample: no caption"] += 1
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
        index: [text for text in item if isinstance(text, str) and _is_unicode(text)]
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
    if not _is_unicode(item):
        return None, "not UTF-8"
    item = item.strip()
    return (item, "") if item else (None, "empty")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can spell half a surrogate pair
        return False
    return True


def printable(text: str) -> str:
    """A stranger's text made safe for a terminal: control characters shown as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
