"""The folder of a run: begun, gone on with, or finished."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fscdata.base.errors import FsckitError
from fscdata.base.files import write_text
from fscdata.base.locks import file_lock
from fsctrain.config import Config, dump_config, load_config
from fsctrain.state import FOLDER, saved_states

CHECKPOINT, BEST = "checkpoint", "best"
CONFIG, METRICS, BAD_IMAGES = "config.yaml", "metrics.jsonl", "bad_images.jsonl"

# Settings that a resumed run may have otherwise: they change nothing of what is computed.
FREE = frozenset(
    {"recipe", "out", "name", "workers", "device", "micro_batch_size", "shard_loss", "log_every"}
    | {"checkpoint_every", "checkpoint_minutes", "grad_checkpointing", "compile", "tensorboard"}
    | {"wandb", "max_bad"}
)


@dataclass(frozen=True)
class Start:
    """Where a run begins.

    Attributes:
        finished: there is nothing left to do.
        resumes: whether the folder is there already.
        state: the saved state to go on from; None to begin with the first step.
    """

    finished: bool = False
    resumes: bool = False
    state: Path | None = None


def find_start(folder: Path, config: Config, *, resume: bool) -> Start:
    """What a run finds in its folder; nothing is changed.

    Args:
        folder: the run's.
        config: the settings.
        resume: whether it may go on with what is there.

    Raises:
        FsckitError: there is a run and it is not to be resumed, or one of other settings.
    """
    if not folder.exists():
        return Start()
    finished = (folder / CHECKPOINT).exists()
    if not resume:
        kind = "a run" if finished else "an unfinished run"
        advice = "" if finished else "go on with it by --resume, delete the folder, or "
        raise FsckitError(f"{folder}: there is {kind} of this name; {advice}give another --name")
    _check_same(folder, config)
    states = saved_states(folder)
    return Start(finished=finished, resumes=True, state=states[-1] if states else None)


@contextmanager
def one_run_at_a_time(folder: Path) -> Iterator[None]:
    """Raises FsckitError where another process works in a run's folder; a killed one does not."""
    with file_lock(folder, "wait for it to finish, or give another --name"):
        yield


def begin(folder: Path, config: Config, start: Start) -> None:
    """Make the folder, or take away from it what no state holds."""
    folder.mkdir(parents=True, exist_ok=True)
    if start.state is None:
        for name in (METRICS, BAD_IMAGES):
            (folder / name).unlink(missing_ok=True)
    path = folder / CONFIG
    write_text(path, f"# fsctrain run --recipe {path} --name NAME\n{dump_config(config)}")


def finish(folder: Path) -> None:
    """Remove what a finished run no longer needs, and what a killed one left half done."""
    for left in (folder / FOLDER, *folder.glob(f"{BEST}-*"), *folder.glob(".*.tmp")):
        shutil.rmtree(left, ignore_errors=True)


def _check_same(folder: Path, config: Config) -> None:
    """A resumed run computes what the one before it did, or says which setting differs."""
    path = folder / CONFIG
    if not path.is_file():
        raise FsckitError(f"{folder}: no run's folder ({CONFIG} is missing); give another --name")
    before = load_config(str(path), {})
    free = FREE - {"workers"} if config.stream else FREE  # a stream's order depends on them
    for name in Config.model_fields:
        old, new = getattr(before, name), getattr(config, name)
        if name not in free and old != new:
            option = f"--{name.replace('_', '-')}"
            raise FsckitError(
                f"{path}: the run there has {name} {old}, not {new}; to resume it leave "
                f"{option} as it was, or give another --name"
            )
