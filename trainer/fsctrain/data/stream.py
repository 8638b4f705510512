"""Tars read from first to last, each joined with its own tables: for data that is far away."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from fscdata.base.errors import FsckitError
from fscdata.base.paths import data_path
from fscdata.base.text import printable
from fscdata.contract import caption_hash
from fsctrain.config import Config
from fsctrain.data.batch import Batch, Row, make_batch
from fsctrain.data.images import CROPS, Buffer, Draws, crop_draws
from fsctrain.data.loader import run_loader
from fsctrain.data.order import Integers, Order, check_weights
from fsctrain.data.pieces import Piece, Share, mixed, share
from fsctrain.data.shards import Sample, Shard, digest_of, open_shards
from fsctrain.data.tables import check_context, check_folders, join_tables
from fsctrain.data.texts import TextReader, text_reader
from fsctrain.model import Clip


@dataclass(frozen=True)
class Streamed:
    """A `Source` that reads whole tars in sequence, and needs no copy of them.

    Which rows come together hangs on the seed, the epoch, the number of ranks and that of workers
    (`fsctrain.data.pieces`). A run that begins in the middle of an epoch leaves out the tars of
    which nothing is wanted any more, and of the others decodes only what is wanted.

    A bad picture is replaced as in `Batches`, in the worker's own order and only by rows that are
    still to come.

    Attributes:
        sets: the shards of each data set.
        order: sizes, weights, seed, batch size, rank and ranks.
        texts: of each data set.
        config: styles, crop scale, transform and workers are used.
        context_length: tokens that a text is cut to.
        image_size: H and W.
    """

    sets: list[list[Shard]]
    order: Order
    texts: list[TextReader]
    config: Config
    context_length: int
    image_size: tuple[int, int]

    @property
    def firsts(self) -> list[int]:
        """The number of each data set's first shard."""
        return [0, *np.cumsum([len(shards) for shards in self.sets])[:-1].tolist()]

    @property
    def captions(self) -> int:
        return sum(self.order.sizes)

    @property
    def steps_per_epoch(self) -> int:
        return self.order.steps_per_epoch

    def coverage(self) -> dict[str, float]:
        """The share of captions that have a negative of each style, as the tables' records say."""
        shards = [shard for shards in self.sets for shard in shards]
        captions = sum(shard.rows for shard in shards)
        return {
            style: sum(shard.having[style] for shard in shards) / captions
            for style in self.config.styles
        }

    def digest(self) -> str:
        return digest_of(table for part in self.sets for shard in part for table in shard.made)

    def batches(self, first_step: int, stop_step: int, pin_memory: bool = False) -> Iterator[Batch]:
        steps = range(first_step, stop_step)
        return run_loader(_Steps(self, steps), None, self.config.workers, pin_memory)

    def of_lane(self, steps: range, lane: int, lanes: int) -> Iterator[Batch]:
        """The batches of those steps that leave `lane` modulo `lanes`."""
        if not steps:
            return
        rows = [[shard.rows for shard in shards] for shards in self.sets]
        per_epoch = self.steps_per_epoch
        for epoch in range(steps.start // per_epoch, (steps.stop - 1) // per_epoch + 1):
            yield from self._of_share(share(self.order, rows, epoch, lane, lanes), epoch, steps)

    def _of_share(self, share: Share, epoch: int, steps: range) -> Iterator[Batch]:
        wanted = [i for i, step in enumerate(share.steps) if step in steps]
        if not wanted:
            return
        config = self.config
        order = mixed(share, self.order.seed, epoch)
        starts = np.cumsum([0, *share.counts]).tolist()
        reader = _Reader(self, share.pieces, order[starts[wanted[0]] :])

        def crop(image: Buffer, numbers: Draws) -> Tensor:
            return CROPS[config.transform](image, self.image_size, config.crop_scale, numbers)

        for i in wanted:
            places = range(starts[i], starts[i + 1])

            def candidates(i: int, places: range = places) -> Iterator[Row]:
                for place in range(places[i], len(order), len(places)):
                    yield reader.row(int(order[place]))

            whole = range(share.first + places.start, share.first + places.stop)
            draws = crop_draws(self.order.seed, epoch, whole)
            yield make_batch(draws, candidates, crop, self.image_size, len(config.styles))
            reader.forget(order[places.start : places.stop])

    def read_piece(self, piece: Piece, wanted: Integers) -> Iterator[tuple[int, Row]]:
        """Those rows of a piece, counted from its start, in the order of the tar."""
        number = np.searchsorted(self.firsts, piece.shard, side="right") - 1
        shard = self.sets[number][piece.shard - self.firsts[number]]
        tables = shard.tables()
        data = join_tables(data_path(shard.data), tables, self.texts[number], self.context_length)
        rows = defaultdict(list)
        for row in wanted.tolist():
            rows[data.key(piece.start + row)].append(row)
        with closing(shard.samples(rows.keys())) as samples:
            for sample in samples:
                for row in rows.pop(sample.key):
                    _refuse_other_caption(shard, sample, tables.samples[0], piece.start + row)
                    read = partial(bytes, sample.image)
                    yield row, Row(data, piece.start + row, piece.turn, read)
                if not rows:
                    return
        raise FsckitError(
            f"{shard.tar}: has no picture of sample '{printable(next(iter(rows)))}', which its "
            f"table has: the tar changed since; run 'fscdata make-negatives {shard.data} --recipe "
            f"RECIPE --overwrite'"
        )


def _refuse_other_caption(shard: Shard, sample: Sample, table: pa.Table, row: int) -> None:
    """Raises FsckitError where a table's row has another caption than the tar."""
    if sample.captions is None:
        return
    caption = sample.captions.get(table["caption_index"][row].as_py())
    if caption is None or caption_hash(caption) != table["caption_hash"][row].as_py():
        raise FsckitError(
            f"{shard.tar}: the caption hash of sample '{printable(sample.key)}' does not match its "
            f"table: the tar changed since; run 'fscdata make-negatives {shard.data} --recipe "
            f"RECIPE'"
        )


class _Reader:
    """The rows of some pieces, held from when they are read until they are forgotten."""

    def __init__(self, stream: Streamed, pieces: list[Piece], wanted: Integers) -> None:
        self._held: dict[int, Row] = {}
        self._coming = self._read(stream, pieces, wanted)

    def row(self, place: int) -> Row:
        """The row at this place of the pieces; it is read as far as that."""
        while place not in self._held:
            found, row = next(self._coming)
            self._held[found] = row
        return self._held[place]

    def forget(self, places: Integers) -> None:
        for place in places.tolist():
            del self._held[place]

    @staticmethod
    def _read(stream: Streamed, pieces: list[Piece], wanted: Integers) -> Iterator[tuple[int, Row]]:
        is_wanted = np.zeros(sum(map(len, pieces)), bool)
        is_wanted[wanted] = True
        first = 0
        for piece in pieces:
            rows = np.flatnonzero(is_wanted[first : first + len(piece)])
            if len(rows):
                for row, found in stream.read_piece(piece, rows):
                    yield first + row, found
            first += len(piece)


class _Steps(IterableDataset[Batch | FsckitError]):
    """Some steps of a stream, dealt to the workers of torch's loader, which asks them in turn."""

    def __init__(self, stream: Streamed, steps: range) -> None:
        self._stream = stream
        self._steps = steps

    def __iter__(self) -> Iterator[Batch | FsckitError]:
        """The batches; an error is given back, since a worker would wrap it in a traceback."""
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        try:
            # Which lane a step belongs to does not hang on where the run began.
            yield from self._stream.of_lane(
                self._steps, (self._steps.start + worker) % workers, workers
            )
        except FsckitError as error:
            yield error


def open_stream(
    config: Config, clip: Clip, image_size: tuple[int, int], rank: int = 0, ranks: int = 1
) -> Streamed:
    """The data sets of a run, as far as they can be checked without reading tars.

    Raises:
        FsckitError: as `open_shards` and `read_data`.
    """
    weights = check_folders(config.data, config.data_weights)
    context_length = check_context(clip, config.context_length)
    sets, texts = [], []
    for folder in config.data:
        data = data_path(folder)
        shards, tokenizer = open_shards(data, config.styles)
        sets.append(shards)
        texts.append(text_reader(data, clip, tokenizer))
    sizes = tuple(sum(shard.rows for shard in shards) for shards in sets)
    check_weights(config.data, weights, sizes)
    order = Order(sizes, weights, config.seed, config.batch_size, rank, ranks)
    return Streamed(sets, order, texts, config, context_length, image_size)
