"""The shards of a data set as their tables' footers tell, for reading them one by one."""

from __future__ import annotations

import tarfile
from collections.abc import Container, Generator
from dataclasses import dataclass

from fscdata.contract import (
    IMAGE_EXTENSIONS,
    DataPath,
    Dataset,
    FsckitError,
    access,
    at_once,
    data_path,
    negatives_path,
    open_binary,
    open_footers,
    read_table,
    refuse_changed,
    samples_path,
)


@dataclass(frozen=True)
class Shard:
    """A tar, known by name alone: a worker opens file systems of its own.

    Attributes:
        data: its data set.
        tar: where it lies.
        rows: its captions.
        having: for each style the captions that have a negative.
    """

    data: str
    tar: str
    rows: int
    having: dict[str, int]

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

    def pictures(self, keys: Container[str]) -> Generator[tuple[str, bytes], None, None]:
        """The pictures of some samples with their keys, in the order of the tar.

        Raises:
            FsckitError: the tar cannot be read, or is damaged.
        """
        # Only here: it is slow to import.
        from webdataset.tariterators import base_plus_ext, tar_file_iterator  # noqa: PLC0415

        def selected(name: str) -> bool:
            key, extension = base_plus_ext(name)
            return key in keys and extension.lower() in IMAGE_EXTENSIONS

        tar = data_path(self.tar)
        try:
            with access(tar, "read"), open_binary(tar) as file:
                for member in tar_file_iterator(file, skip_meta=None, select_files=selected):
                    yield base_plus_ext(member["fname"])[0], member["data"]
        except (tarfile.TarError, EOFError):
            raise FsckitError(f"{tar}: the tar is damaged; fetch or pack it again") from None


def open_shards(data: DataPath, styles: tuple[str, ...]) -> tuple[list[Shard], str | None]:
    """The shards of a data set, and the tokenizer of its tables.

    The tables' footers are read and the tars' sizes compared; no tar is read.

    Raises:
        FsckitError: as `open_footers`; a tar has another size than its table says; no captions.
    """
    footers = open_footers(data, list(styles))
    pairs = list(zip(footers.samples.items(), footers.tars, strict=True))
    at_once(lambda pair: refuse_changed(*pair[0], pair[1]), pairs)
    shards = []
    for number, ((_, metadata), tar) in enumerate(pairs):
        having = {}
        for style in styles:
            of_style = list(footers.negatives[style].values())[number].shard
            having[style] = of_style.captions - sum(of_style.without.values())
        if metadata.shard.rows:
            shards.append(Shard(str(data), str(tar), metadata.shard.rows, having))
    if not shards:
        raise FsckitError(
            f"{data}: its samples tables hold no caption; there is nothing to train on"
        )
    return shards, next(iter(footers.samples.values())).provenance.tokenizer
