"""The shards of a data set, described by their tables' footers, to be read one by one."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Container, Generator, Iterable, Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b

from fscdata.base.errors import FsckitError
from fscdata.base.parallel import parallel_map
from fscdata.base.paths import DataPath, access, data_path, open_binary
from fscdata.contract import (
    IMAGE_EXTENSIONS,
    CaptionSource,
    Dataset,
    Metadata,
    captions_inside,
    negatives_path,
    open_footers,
    read_table,
    refuse_changed,
    samples_path,
    split_member,
)

TEXTS = ("json", "txt")


@dataclass(frozen=True)
class Sample:
    """A sample of a tar: its image, and its captions by index; None if the table's captions did
    not come from the tar.
    """

    key: str
    image: bytes
    captions: dict[int, str] | None


@dataclass(frozen=True)
class Shard:
    """A tar and its tables, by name only: each worker opens its own file systems.

    Attributes:
        data: its data set.
        tar: its path or URL.
        rows: number of its captions.
        with_negatives: number of captions with a negative, by style.
        metadata: the footer of each of its tables, the samples table's first.
    """

    data: str
    tar: str
    rows: int
    with_negatives: dict[str, int]
    metadata: list[Metadata]

    @property
    def variants(self) -> dict[str, int]:
        """See `Footers.variants`."""
        made = (table.provenance.variants or 1 for table in self.metadata[1:])
        return dict(zip(self.with_negatives, made, strict=True))

    def tables(self) -> Dataset[DataPath]:
        """Its tables, as a data set of one shard.

        Raises:
            FsckitError: as in `read_table`.
        """
        data, tar = data_path(self.data), data_path(self.tar)
        return Dataset(
            tars=[tar],
            samples=[read_table(samples_path(data, tar.stem))],
            negatives={
                style: [read_table(negatives_path(data, style, tar.stem))]
                for style in self.with_negatives
            },
            tokenizer=None,
            variants=self.variants,
        )

    def samples(self, keys: Container[str]) -> Generator[Sample, None, None]:
        """The samples with these keys, in tar order.

        Closing the generator early leaves the rest of the tar unread.

        Raises:
            FsckitError: the tar cannot be read, or is damaged.
        """
        tar = data_path(self.tar)
        source = CaptionSource.inside_tar(self.metadata[0].provenance.caption_source)
        try:
            with (
                access(tar, "read"),
                open_binary(tar) as file,
                tarfile.open(fileobj=file, mode="r|") as members,
            ):
                for key, contents in _groups(members, keys, TEXTS if source else ()):
                    images = [contents[name] for name in contents if name in IMAGE_EXTENSIONS]
                    captions = captions_inside(key, contents, source) if source else None
                    if images:
                        yield Sample(key, images[0], captions)
        except (tarfile.TarError, EOFError):
            raise FsckitError(f"{tar}: the tar is damaged; download or pack it again") from None


def _groups(
    tar: tarfile.TarFile, keys: Container[str], texts: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Each key with the contents of its images and texts, by extension."""
    group: dict[str, bytes] = {}
    last = ""
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # else tarfile keeps every header in memory
        key, extension = split_member(member.name)
        if key != last and group:
            yield last, group
            group = {}
        last = key
        if member.isfile() and key in keys and extension in (*IMAGE_EXTENSIONS, *texts):
            content = tar.extractfile(member)
            group[extension] = content.read() if content else b""
    if group:
        yield last, group


def provenance_digest(tables: Iterable[Metadata]) -> str:
    """A digest of the tables' provenance, independent of their location."""
    records = [asdict(table) for table in tables]
    return blake2b(json.dumps(records).encode(), digest_size=16).hexdigest()


def open_shards(data: DataPath, styles: tuple[str, ...]) -> tuple[list[Shard], str | None]:
    """The shards of a data set, and the tokenizer of its tables.

    Reads the tables' footers and compares the tars' sizes with them; no tar is opened.

    Raises:
        FsckitError: as in `open_footers`; a tar's size differs from its table's; no captions.
    """
    footers = open_footers(data, list(styles))
    pairs = list(zip(footers.samples.items(), footers.tars, strict=True))
    parallel_map(lambda pair: refuse_changed(*pair[0], pair[1]), pairs)
    shards = []
    for number, ((_, metadata), tar) in enumerate(pairs):
        negatives = {style: list(of.values())[number] for style, of in footers.negatives.items()}
        with_negatives = {
            style: negatives[style].shard.captions - sum(negatives[style].shard.without.values())
            for style in styles
        }
        if metadata.shard.rows:
            tables = [metadata, *negatives.values()]
            shards.append(Shard(str(data), str(tar), metadata.shard.rows, with_negatives, tables))
    if not shards:
        raise FsckitError(f"{data}: the samples tables contain no captions to train on")
    return shards, next(iter(footers.samples.values())).provenance.tokenizer
