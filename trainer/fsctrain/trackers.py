"""Send the records of metrics.jsonl to TensorBoard and Weights & Biases."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

from fscdata.base.errors import FsckitError, first_line
from fscdata.base.extras import requires
from fsctrain.config import Config

log = logging.getLogger("fsctrain")

Record = Mapping[str, Any]  # a line of metrics.jsonl
Track = Callable[[Record], None]
PROJECT, WANDB_ID = "fsckit", "wandb.id"


def check_trackers(config: Config) -> None:
    """Raise FsckitError if the library of a requested tracker is not installed."""
    if config.tensorboard:
        _import("torch.utils.tensorboard", "tensorboard")
    if config.wandb:
        _import("wandb", "wandb")


@contextmanager
def open_trackers(config: Config, folder: Path, resumed_at: int | None = None) -> Iterator[Track]:
    """Open the trackers that the settings name; yields a function that sends them a record.

    Args:
        config: the settings.
        folder: the run's existing folder; each tracker writes to its own subfolder.
        resumed_at: the step at which a run resumes; TensorBoard drops its later records. Weights &
            Biases continues the same run.

    Raises:
        FsckitError: a tracker's library is not installed, or Weights & Biases refuses the login.
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
        raise FsckitError(
            f"`wandb`: Weights & Biases refused the run ({first_line(error)}); run 'wandb login', "
            f"or set WANDB_MODE=offline"
        ) from None
    log.info("Weights & Biases: %s", run.url or run.dir)
    with run:  # marks a run that ends with an error as failed

        def track(record: Record) -> None:
            run.log(dict(_scalars(record)), step=record["step"])

        yield track


def _scalars(record: Record) -> Iterator[tuple[str, Any]]:
    """A record's numbers by name; nested ones as `scores/NAME`."""
    for name, value in record.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for part, number in parts:
            if number is not None and name != "step":
                yield f"{name}/{part}" if part else name, number


def _import(module: str, extra: str) -> ModuleType:
    with requires(extra, f"`{extra}`"):
        return import_module(module)
