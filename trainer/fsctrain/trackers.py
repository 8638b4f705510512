"""The records of metrics.jsonl, to TensorBoard and to Weights & Biases too."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

from fscdata.base.errors import FsckitError
from fscdata.base.extras import requires
from fsctrain.config import Config

log = logging.getLogger("fsctrain")

Record = Mapping[str, Any]  # a line of metrics.jsonl
Track = Callable[[Record], None]
PROJECT, WANDB_ID = "fsckit", "wandb.id"


def check_trackers(config: Config) -> None:
    """Raises FsckitError where the library of a tracker that is asked for is not installed."""
    if config.tensorboard:
        _import("torch.utils.tensorboard", "tensorboard")
    if config.wandb:
        _import("wandb", "wandb")


@contextmanager
def open_trackers(config: Config, folder: Path, resumed_at: int | None = None) -> Iterator[Track]:
    """What takes the records of a run to the trackers that its settings name, if they name any.

    Args:
        config: of which `tensorboard` and `wandb` say which.
        folder: the run's, which is there; TensorBoard's files and those of Weights & Biases get
            folders of their own in it.
        resumed_at: the steps that a resumed run has behind it; what came of later ones is purged
            from TensorBoard. Weights & Biases goes on with the same run.

    Raises:
        FsckitError: a tracker's library is not installed, or Weights & Biases lets nobody in.
    """
    with ExitStack() as stack:
        trackers: list[Track] = []
        if config.tensorboard:
            trackers.append(stack.enter_context(_tensorboard(folder, resumed_at)))
        if config.wandb:
            trackers.append(stack.enter_context(_wandb(config, folder)))

        def track(record: Record) -> None:
            for tracker in trackers:
                tracker(record)

        yield track


@contextmanager
def _tensorboard(folder: Path, resumed_at: int | None) -> Iterator[Track]:
    library = _import("torch.utils.tensorboard", "tensorboard")
    purge = None if resumed_at is None else resumed_at + 1
    with library.SummaryWriter(str(folder / "tensorboard"), purge_step=purge) as writer:

        def track(record: Record) -> None:
            for name, value in _scalars(record):
                writer.add_scalar(name, value, record["step"])
            writer.flush()

        yield track


@contextmanager
def _wandb(config: Config, folder: Path) -> Iterator[Track]:
    wandb = _import("wandb", "wandb")
    path = folder / WANDB_ID
    if not path.exists():
        path.write_text(uuid4().hex, encoding="utf-8")
    try:
        run = wandb.init(
            project=PROJECT,
            name=config.name,
            id=path.read_text(encoding="utf-8"),
            resume="allow",
            dir=folder,
            config=config.model_dump(mode="json"),
            settings=wandb.Settings(silent=True, console="off"),
        )
    except wandb.Error as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FsckitError(
            f"--wandb: Weights & Biases refuses ({reason}); run 'wandb login', or set "
            f"WANDB_MODE=offline"
        ) from None
    log.info("Weights & Biases: %s", run.url or run.dir)
    with run:  # a run that ends by an error is marked so

        def track(record: Record) -> None:
            run.log(dict(_scalars(record)), step=record["step"])

        yield track


def _scalars(record: Record) -> Iterator[tuple[str, Any]]:
    """A record's numbers by name, those of styles and scores as `scores/NAME`."""
    for name, value in record.items():
        several = value.items() if isinstance(value, dict) else [("", value)]
        for part, number in several:
            if number is not None and name != "step":
                yield f"{name}/{part}" if part else name, number


def _import(module: str, extra: str) -> ModuleType:
    with requires(extra, f"--{extra}"):
        return import_module(module)
