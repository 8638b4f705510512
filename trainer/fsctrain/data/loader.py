"""The only use of torch's DataLoader: training, streaming and scoring all load through `load`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from fscdata.base.errors import FsckitError

T = TypeVar("T")


def load(
    dataset: Dataset[T | FsckitError],
    indices: range | None,
    *,
    workers: int,
    pin_memory: bool = False,
) -> Iterator[T]:
    """Yield the items of a data set in order, each a whole batch.

    Args:
        dataset: returns errors as items instead of raising them, since torch would wrap a worker's
            exception in a traceback.
        indices: the items to load; None for an iterable data set, which chooses its own.
        workers: processes that load the items; 0 loads them in this process.
        pin_memory: whether to lock the pages of a batch, for the copy to a GPU.

    Raises:
        FsckitError: an item is an error.
    """
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_ignore_signals,
        # Its own generator: the loader draws a seed at its start, and drawing it from torch's
        # global generator would shift the dropout of a resumed run.
        generator=torch.Generator(),
        # Forked workers start fast and share the tables' memory; forking is safe only on Linux.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
    )
    for item in loader:
        if isinstance(item, FsckitError):
            raise item
        yield item


def _ignore_signals(worker: int) -> None:
    """Ctrl-C reaches the whole process group; the run ends its workers after saving its state."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
