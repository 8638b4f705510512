"""Batches by byte range: rows, negatives and crops depend only on the seed and the step."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from hashlib import blake2b
from typing import Literal

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from fscdata.base.errors import FsckitError
from fsctrain.data.batch import Batch, Row, make_batch, strided
from fsctrain.data.images import CROPS, Buffer, Draws, crop_draws
from fsctrain.data.loader import load
from fsctrain.data.order import Order
from fsctrain.data.tars import TarReader
from fsctrain.data.training_data import Coverage, TrainingData


class Batches(Dataset[Batch | FsckitError]):
    """A `Source` that reads each image by its byte range, in the `Order`.

    An unreadable image is replaced, so that a batch keeps its size: position p of an epoch's order
    is filled by the row at p + B, else at p + 2B, and so on modulo the epoch's length. At most ten
    rows are tried. The replacement brings its own texts, and appears twice in that epoch. If none
    of the ten is readable, the row is dropped.

    Args:
        data: the rows.
        batch_size: B, over all ranks.
        image_size: H and W.
        crop_scale: smallest and largest share of the image's area that a crop keeps.
        seed: seed of the order and the crops.
        rank, ranks: the part of each global batch that this rank loads.
        transform: how an image is decoded and cropped, a key of `CROPS`.
        workers: processes that load batches; 0 loads them in this process.
        captions_per_image: "one" takes each image once per epoch, with a caption drawn at random;
            an epoch then has as many rows as images.
    """

    def __init__(
        self,
        data: TrainingData,
        batch_size: int,
        image_size: tuple[int, int],
        *,
        crop_scale: tuple[float, float],
        seed: int,
        rank: int = 0,
        ranks: int = 1,
        transform: Literal["uint8", "pil"] = "uint8",
        workers: int = 0,
        captions_per_image: Literal["all", "one"] = "all",
    ) -> None:
        self.data = data
        # The order's units are rows or images.
        self._image_starts = data.image_starts() if captions_per_image == "one" else None
        sizes = data.sizes
        if self._image_starts is not None:
            ends = np.searchsorted(self._image_starts, np.cumsum([0, *sizes]))
            sizes = tuple(np.diff(ends).tolist())
        self.order = Order(sizes, data.weights, seed, batch_size, rank, ranks)
        self._image_size = image_size
        self._crop_scale = crop_scale
        self._crop = CROPS[transform]
        self._tars = TarReader(data.tars)
        self._workers = workers

    @property
    def captions(self) -> int:
        return len(self.data)

    @property
    def steps_per_epoch(self) -> int:
        return self.order.steps_per_epoch

    def coverage(self) -> list[Coverage]:
        return self.data.coverage()

    def digest(self) -> str:
        data = self.data
        parts = [data.captions.ids, data.negatives.ids, data.tar, data.image_offset, *data.variants]
        digest = blake2b(digest_size=16)
        for part in parts:
            digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()

    def batches(self, first_step: int, stop_step: int, pin_memory: bool = False) -> Iterator[Batch]:
        steps = range(first_step, stop_step)
        return load(self, steps, workers=self._workers, pin_memory=pin_memory)

    def __getitem__(self, step: int) -> Batch | FsckitError:
        """The batch of a step; errors are returned, as `load` requires."""
        order, data = self.order, self.data
        epoch, positions = order.positions(step)
        rows, repeats = order.epoch(epoch)
        draws = crop_draws(order.seed, epoch, positions)

        def candidates(i: int) -> Iterator[Row]:
            for position in strided(positions[i], order.batch_size, len(rows)):
                repeat = int(repeats[position])
                row = self._row(int(rows[position]), repeat)
                yield Row(data, row, repeat, partial(self._read, row))

        def crop(image: Buffer, numbers: Draws) -> Tensor:
            return self._crop(image, self._image_size, self._crop_scale, numbers)

        try:
            return make_batch(draws, candidates, crop, self._image_size, len(data.styles))
        except FsckitError as error:
            return error

    def _row(self, unit: int, repeat: int) -> int:
        """The row of a unit of the order in a pass over its data set."""
        if self._image_starts is None:
            return unit
        first, stop = self._image_starts[unit : unit + 2].tolist()
        key = f"{self.order.seed} {repeat} {unit}".encode()
        drawn = int.from_bytes(blake2b(key, digest_size=8).digest(), "little")
        return int(first + drawn % (stop - first))

    def _read(self, row: int) -> Buffer:
        return self._tars.read(*self.data.image_place(row))
