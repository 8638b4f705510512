"""The one front of the data: what the training loop knows of it."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Protocol

import numpy as np

from fsctrain.config import Config
from fsctrain.data.batch import Batch
from fsctrain.data.loader import Batches, load_batches
from fsctrain.data.order import check_weights
from fsctrain.data.stream import open_stream
from fsctrain.data.tables import read_data
from fsctrain.model import Clip


class Source(Protocol):
    """This rank's batches of a run that goes through the captions again and again."""

    @property
    def captions(self) -> int:
        """Captions of all data sets."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """The same on all ranks."""
        ...

    def coverage(self) -> dict[str, float]:
        """The share of captions that have a negative of each style."""
        ...

    def digest(self) -> str:
        """Of what was found, wherever it lies: two runs on the same data have the same."""
        ...

    def batches(self, first_step: int, stop_step: int, pin_memory: bool = False) -> Iterator[Batch]:
        """This rank's part of the global batches of the steps first_step … stop_step − 1.

        A run that begins in the middle of an epoch gets what an undisturbed one would have got.

        Raises:
            FsckitError: a tar changed since its tables were made.
        """
        ...


class Indexed:
    """Pictures read one by one at their places in the tars; the batches are `Batches`."""

    def __init__(self, batches: Batches, workers: int) -> None:
        self._batches = batches
        self._workers = workers

    @property
    def captions(self) -> int:
        return len(self._batches.data)

    @property
    def steps_per_epoch(self) -> int:
        return self._batches.steps_per_epoch

    def coverage(self) -> dict[str, float]:
        return self._batches.data.coverage()

    def digest(self) -> str:
        data = self._batches.data
        parts = [data.captions.ids, data.negatives.ids, data.tar, data.image_offset, *data.variants]
        found = blake2b(digest_size=16)
        for part in parts:
            found.update(np.ascontiguousarray(part).data)
        return found.hexdigest()

    def batches(self, first_step: int, stop_step: int, pin_memory: bool = False) -> Iterator[Batch]:
        steps = range(first_step, stop_step)
        return load_batches(self._batches, steps, workers=self._workers, pin_memory=pin_memory)


def open_source(
    config: Config, clip: Clip, image_size: tuple[int, int], rank: int = 0, ranks: int = 1
) -> Source:
    """The data sets of a run, checked before the first step.

    Raises:
        FsckitError: as `read_data`; a data set's weight that takes none of its captions.
    """
    if config.stream:
        return open_stream(config, clip, image_size, rank, ranks)
    data = read_data(config.data, config.data_weights, config.styles, clip, config.context_length)
    check_weights(config.data, data.weights, data.sizes)
    batches = Batches(
        data,
        config.batch_size,
        image_size,
        crop_scale=config.crop_scale,
        seed=config.seed,
        rank=rank,
        ranks=ranks,
        transform=config.transform,
    )
    return Indexed(batches, config.workers)
