"""Read tars sequentially, each joined with its own tables, for data in an object store."""

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
from fsctrain.data.loader import load
from fsctrain.data.order import Integers, Order, check_weights
from fsctrain.data.shards import Sample, Shard, open_shards, provenance_digest
from fsctrain.data.stream_order import Assignment, Span, assign, shuffle
from fsctrain.data.texts import TextReader, text_reader
from fsctrain.data.training_data import Coverage, check_context, check_folders, join_tables
from fsctrain.model import Clip


@dataclass(frozen=True)
class StreamedBatches:
    """A `Source` that reads whole tars in sequence, and needs no local copy of them.

    Which rows share a batch depends on the seed, the epoch, and the numbers of ranks and workers
    (`fsctrain.data.stream_order`). A run that resumes in the middle of an epoch skips the tars that
    it no longer needs, and decodes only the images that it still needs.

    A bad image is replaced as in `Batches`, but in the worker's own order and only by rows that the
    worker has not yet used.

    Attributes:
        sets: the shards of each data set.
        order: sizes, weights, seed, batch size, rank and ranks.
        texts: the text reader of each data set.
        config: the settings.
        context_length: maximum tokens per text.
        image_size: H and W.
    """

    sets: list[list[Shard]]
    order: Order
    texts: list[TextReader]
    config: Config
    context_length: int
    image_size: tuple[int, int]

    @property
    def captions(self) -> int:
        return sum(self.order.sizes)

    @property
    def steps_per_epoch(self) -> int:
        return self.order.steps_per_epoch

    def coverage(self) -> list[Coverage]:
        """The negatives of each style, from the tables' footers."""
        shards = [shard for shards in self.sets for shard in shards]
        captions = sum(shard.rows for shard in shards)
        return [
            Coverage(
                style,
                sum(shard.with_negatives[style] for shard in shards) / captions,
                min(shard.variants[style] for shard in shards),
            )
            for style in self.config.styles
        ]

    def digest(self) -> str:
        return provenance_digest(
            table for shards in self.sets for shard in shards for table in shard.metadata
        )

    def batches(self, first_step: int, stop_step: int, pin_memory: bool = False) -> Iterator[Batch]:
        steps = _Steps(self, range(first_step, stop_step))
        return load(steps, None, workers=self.config.workers, pin_memory=pin_memory)

    def worker_batches(self, steps: range, worker: int, workers: int) -> Iterator[Batch]:
        """The batches of those `steps` with step mod `workers` = `worker`."""
        if not steps:
            return
        rows = [[shard.rows for shard in shards] for shards in self.sets]
        per_epoch = self.steps_per_epoch
        for epoch in range(steps.start // per_epoch, (steps.stop - 1) // per_epoch + 1):
            assignment = assign(self.order, rows, epoch, worker, workers)
            yield from self._epoch_batches(assignment, epoch, steps)

    def _epoch_batches(self, assignment: Assignment, epoch: int, steps: range) -> Iterator[Batch]:
        """An assignment's batches for `steps`."""
        remaining = [i for i, step in enumerate(assignment.steps) if step in steps]
        if not remaining:
            return
        config = self.config
        order = shuffle(assignment, self.order.seed, epoch)
        starts = np.cumsum([0, *assignment.counts]).tolist()
        reader = _RowReader(self, assignment.spans, order[starts[remaining[0]] :])

        def crop(image: Buffer, numbers: Draws) -> Tensor:
            return CROPS[config.transform](image, self.image_size, config.crop_scale, numbers)

        for i in remaining:
            positions = range(starts[i], starts[i + 1])

            def candidates(i: int, positions: range = positions) -> Iterator[Row]:
                for position in range(positions[i], len(order), len(positions)):
                    yield reader.row(int(order[position]))

            in_epoch = range(assignment.first + positions.start, assignment.first + positions.stop)
            draws = crop_draws(self.order.seed, epoch, in_epoch)
            yield make_batch(draws, candidates, crop, self.image_size, len(config.styles))
            reader.release(order[positions.start : positions.stop])

    def read_span(self, span: Span, needed: Integers) -> Iterator[tuple[int, Row]]:
        """The needed rows of a span, with their indices in it, in tar order.

        Raises:
            FsckitError: the tar and its tables do not match, or cannot be read.
        """
        firsts = np.cumsum([0, *(len(shards) for shards in self.sets)])
        number = int(np.searchsorted(firsts, span.shard, side="right")) - 1
        shard = self.sets[number][span.shard - int(firsts[number])]
        tables = shard.tables()
        data = join_tables(data_path(shard.data), tables, self.texts[number], self.context_length)
        rows = defaultdict(list)
        for row in needed.tolist():
            rows[data.key(span.start + row)].append(row)
        with closing(shard.samples(rows.keys())) as samples:
            for sample in samples:
                for row in rows.pop(sample.key):
                    _check_caption(shard, sample, tables.samples[0], span.start + row)
                    read = partial(bytes, sample.image)
                    yield row, Row(data, span.start + row, span.repeat, read)
                if not rows:
                    return
        raise FsckitError(
            f"{shard.tar}: the image of sample '{printable(next(iter(rows)))}' is missing, but its "
            f"table lists it: the tar changed; run 'fscdata make-negatives {shard.data} --recipe "
            f"RECIPE --overwrite'"
        )


def _check_caption(shard: Shard, sample: Sample, table: pa.Table, row: int) -> None:
    """Raise FsckitError if the tar's caption differs from the table row's."""
    if sample.captions is None:
        return
    caption = sample.captions.get(table["caption_index"][row].as_py())
    if caption is None or caption_hash(caption) != table["caption_hash"][row].as_py():
        raise FsckitError(
            f"{shard.tar}: the caption hash of sample '{printable(sample.key)}' does not match its "
            f"table: the tar changed; run 'fscdata make-negatives {shard.data} --recipe RECIPE'"
        )


class _RowReader:
    """Reads the rows of some spans, and holds them until they are released."""

    def __init__(self, stream: StreamedBatches, spans: list[Span], needed: Integers) -> None:
        self._held: dict[int, Row] = {}
        self._rows = self._read(stream, spans, needed)

    def row(self, index: int) -> Row:
        """The row with this index in reading order; reads ahead if necessary."""
        while index not in self._held:
            found, row = next(self._rows)
            self._held[found] = row
        return self._held[index]

    def release(self, indices: Integers) -> None:
        for index in indices.tolist():
            del self._held[index]

    @staticmethod
    def _read(
        stream: StreamedBatches, spans: list[Span], needed: Integers
    ) -> Iterator[tuple[int, Row]]:
        is_needed = np.zeros(sum(map(len, spans)), bool)
        is_needed[needed] = True
        first = 0
        for span in spans:
            rows = np.flatnonzero(is_needed[first : first + len(span)])
            if len(rows):
                for row, found in stream.read_span(span, rows):
                    yield first + row, found
            first += len(span)


class _Steps(IterableDataset[Batch | FsckitError]):
    """Some steps of a stream, dealt round-robin to the workers of torch's DataLoader."""

    def __init__(self, stream: StreamedBatches, steps: range) -> None:
        self._stream = stream
        self._steps = steps

    def __iter__(self) -> Iterator[Batch | FsckitError]:
        """The batches of this worker; errors are yielded, as `load` requires."""
        info = get_worker_info()
        number, workers = (info.id, info.num_workers) if info else (0, 1)
        # torch asks worker 0 for the first step, wherever a run resumes; a step's contents must
        # not depend on that.
        worker = (self._steps.start + number) % workers
        try:
            yield from self._stream.worker_batches(self._steps, worker, workers)
        except FsckitError as error:
            yield error


def open_stream(
    config: Config, clip: Clip, image_size: tuple[int, int], rank: int = 0, ranks: int = 1
) -> StreamedBatches:
    """Open a run's data sets and check everything that can be checked without reading tars.

    Raises:
        FsckitError: as in `open_shards` and `read_data`.
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
    return StreamedBatches(sets, order, texts, config, context_length, image_size)
