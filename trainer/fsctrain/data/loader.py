"""Batches by offset: which rows, which negatives, which crop is a function of seed and step."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fscdata.base.errors import FsckitError
from fsctrain.data.batch import Batch, Row, in_turn, make_batch
from fsctrain.data.images import CROPS, Buffer, Draws, crop_draws
from fsctrain.data.order import Order
from fsctrain.data.tables import TrainingData
from fsctrain.data.tars import Tars


class Batches(Dataset[Batch | FsckitError]):
    """Batch number `step` of a run that goes through the rows again and again, in the `Order`.

    A bad picture is replaced: the place p of an epoch's order is taken by the row at p + B, then
    by that at p + 2B, and so on modulo the epoch's length, at most ten of them, with that row's
    own texts. The row is left out where none of them is any good.

    Args:
        data: the rows.
        batch_size: B, over all ranks.
        image_size: H and W.
        crop_scale: smallest and largest share of the picture that a crop keeps.
        seed: of the order and the crops.
        rank, ranks: which part of each global batch is made here.
        transform: how a picture is decoded and cropped, a name of `CROPS`.
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
    ) -> None:
        self.data = data
        self.image_size = image_size
        self.crop_scale = crop_scale
        self.order = Order(data.sizes, data.weights, seed, batch_size, rank, ranks)
        self._crop = CROPS[transform]
        self._tars = Tars(data.tars)

    @property
    def steps_per_epoch(self) -> int:
        return self.order.steps_per_epoch

    def __getitem__(self, step: int) -> Batch | FsckitError:
        """The batch; an error is given back, since a worker would wrap it in a traceback."""
        order, data = self.order, self.data
        epoch, places = order.places(step)
        rows, turns = order.epoch(epoch)
        draws = crop_draws(order.seed, epoch, places)

        def candidates(i: int) -> Iterator[Row]:
            for place in in_turn(places[i], order.batch_size, len(rows)):
                row = int(rows[place])
                yield Row(data, row, int(turns[place]), partial(self._read, row))

        def crop(image: Buffer, numbers: Draws) -> Tensor:
            return self._crop(image, self.image_size, self.crop_scale, numbers)

        try:
            return make_batch(draws, candidates, crop, self.image_size, len(data.styles))
        except FsckitError as error:
            return error

    def _read(self, row: int) -> Buffer:
        data = self.data
        place = int(data.image_offset[row]), int(data.image_size[row])
        return self._tars.read(int(data.tar[row]), data.key(row), *place)


def load_batches(
    batches: Batches, steps: range, *, workers: int, pin_memory: bool = False
) -> Iterator[Batch]:
    """The batches of these steps in order, made by `workers` processes (0: by this one).

    Raises:
        FsckitError: a tar changed since its tables were made.
    """
    return run_loader(batches, steps, workers, pin_memory)


def leave_signals_to_the_run(worker: int) -> None:
    """A signal to the whole group is for the run; it ends its workers when its state is saved."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def run_loader(
    batches: Dataset[Batch | FsckitError], steps: range | None, workers: int, pin_memory: bool
) -> Iterator[Batch]:
    """What torch's loader makes of a data set of batches; `steps` are None if it knows them."""
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=leave_signals_to_the_run,
        generator=torch.Generator(),  # else it would draw from the one that dropout draws from
        # A fork starts at once and shares the tables; elsewhere it is not safe.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
    )
    for batch in loader:
        if isinstance(batch, FsckitError):
            raise batch
        yield batch
