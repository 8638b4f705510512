"""The training loop's interface to its data, read by byte range or streamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from fsctrain.config import Config
from fsctrain.data.batch import Batch
from fsctrain.data.batches import Batches
from fsctrain.data.order import check_weights
from fsctrain.data.stream import open_stream
from fsctrain.data.training_data import Coverage, read_data
from fsctrain.model import Clip


class Source(Protocol):
    """This rank's batches of a run, which makes repeated passes over the captions."""

    @property
    def captions(self) -> int:
        """The number of captions in all data sets."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """Steps per epoch, equal on all ranks."""
        ...

    def coverage(self) -> list[Coverage]:
        """What training can use of each style."""
        ...

    def digest(self) -> str:
        """A digest of the data, independent of its location."""
        ...

    def batches(self, first_step: int, stop_step: int, pin_memory: bool = False) -> Iterator[Batch]:
        """This rank's part of the global batches of steps first_step … stop_step − 1.

        A batch depends on its step, not on where the iteration begins, so a resume is exact.

        Raises:
            FsckitError: a tar changed after its tables were made.
        """
        ...


def open_source(
    config: Config, clip: Clip, image_size: tuple[int, int], rank: int = 0, ranks: int = 1
) -> Source:
    """Open and check a run's data sets.

    Raises:
        FsckitError: as in `read_data`, or a data set's weight selects none of its captions.
    """
    if config.stream:
        return open_stream(config, clip, image_size, rank, ranks)
    data = read_data(config.data, config.data_weights, config.styles, clip, config.context_length)
    check_weights(config.data, data.weights, data.sizes)
    return Batches(
        data,
        config.batch_size,
        image_size,
        crop_scale=config.crop_scale,
        seed=config.seed,
        rank=rank,
        ranks=ranks,
        transform=config.transform,
        workers=config.workers,
        captions_per_image=config.captions_per_image,
    )
