"""The shards of a data set as their tables' footers tell, for reading them one by one."""

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
    """A sample as it comes: its picture, and its captions by their indices; None for these where
    the table took captions from elsewhere.
    """

    key: str
    image: bytes
    captions: dict[int, str] | None


@dataclass(frozen=True)
class Shard:
    """A tar, known by name alone: a worker opens file systems of its own.

    Attributes:
        data: its data set.
        tar: where it lies.
        rows: its captions.
        having: for each style the captions that have a negative.
        made: how each of its tables was made, and from what; the samples table comes first.
    """

    data: str
    tar: str
    rows: int
    having: dict[str, int]
    made: list[Metadata]

    def tables(self) -> Dataset[DataPath]:
        """Its tables alone.

        Raises:
            FsckitError: as `read_table`.
        """
        data, tar = data_path(self.data), data_path(self.tar)
        return Dataset(
            tars=[tar],
            samples=[read_table(samples_path(data, tar.stem))],
            negatives={
                style: [read_table(negatives_path(data, style, tar.stem))] for style in self.having
            },
            tokenizer=None,
        )

    def samples(self, keys: Container[str]) -> Generator[Sample, None, None]:
        """Some samples, in the order of the tar, of which no more is read than it takes.

        Raises:
            FsckitError: the tar cannot be read, or is damaged.
        """
        tar = data_path(self.tar)
        source = CaptionSource.inside_tar(self.made[0].provenance.caption_source)
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
            raise FsckitError(f"{tar}: the tar is damaged; fetch or pack it again") from None


def _groups(
    tar: tarfile.TarFile, keys: Container[str], texts: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Keys, and the contents of their pictures and texts by extension."""
    group: dict[str, bytes] = {}
    last = ""
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # it keeps all, which nobody needs
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


def digest_of(tables: Iterable[Metadata]) -> str:
    """Of how tables were made, and from what, wherever they lie."""
    made = [asdict(table) for table in tables]
    return blake2b(json.dumps(made).encode(), digest_size=16).hexdigest()


def open_shards(data: DataPath, styles: tuple[str, ...]) -> tuple[list[Shard], str | None]:
    """The shards of a data set, and the tokenizer of its tables.

    The tables' footers are read and the tars' sizes compared; no tar is read.

    Raises:
        FsckitError: as `open_footers`; a tar has another size than its table says; no captions.
    """
    footers = open_footers(data, list(styles))
    pairs = list(zip(footers.samples.items(), footers.tars, strict=True))
    parallel_map(lambda pair: refuse_changed(*pair[0], pair[1]), pairs)
    shards = []
    for number, ((_, metadata), tar) in enumerate(pairs):
        having = {}
        for style in styles:
            of_style = list(footers.negatives[style].values())[number].shard
            having[style] = of_style.captions - sum(of_style.without.values())
        if metadata.shard.rows:
            made = [metadata, *(list(of.values())[number] for of in footers.negatives.values())]
            shards.append(Shard(str(data), str(tar), metadata.shard.rows, having, made))
    if not shards:
        raise FsckitError(
            f"{data}: its samples tables hold no caption; there is nothing to train on"
        )
    return shards, next(iter(footers.samples.values())).provenance.tokenizer
