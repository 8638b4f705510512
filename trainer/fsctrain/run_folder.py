"""A run's folder: its contents, its lock, and where a run starts."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fscdata.base.errors import FsckitError
from fscdata.base.files import TEMPORARY, atomic_folder, write_text
from fscdata.base.locks import file_lock
from fscdata.base.paths import data_path
from fscdata.contract import shard_paths
from fsctrain.config import Config, dump_config, load_config
from fsctrain.early_stopping import BEST
from fsctrain.saved_states import CHECKPOINT, CONFIG, FOLDER, saved_states

METRICS, BAD_IMAGES = "metrics.jsonl", "bad_images.jsonl"

# Settings that may differ on resume, since they do not affect the result.
FREE = frozenset(
    {"recipe", "out", "name", "workers", "device", "micro_batch_size", "shard_loss", "log_every"}
    | {"checkpoint_every", "checkpoint_minutes", "grad_checkpointing", "compile", "tensorboard"}
    | {"wandb", "max_bad"}
)
_IN_USE = "wait for it to finish, or choose another `name`"


@dataclass(frozen=True)
class Start:
    """Where a run starts.

    Attributes:
        finished: whether an earlier process finished the run.
        resumes: whether the folder exists.
        state: the saved state to resume from; None to start at the first step.
    """

    finished: bool = False
    resumes: bool = False
    state: Path | None = None


def check_folders(config: Config, *, resume: bool) -> None:
    """Check a run's folder and its local data sets, as `train` does, but without importing torch.

    Raises:
        FsckitError: as in `find_start`; a data set is missing or has no tars.
    """
    with ExitStack() as stack:
        find_start(config.out / config.name, config, stack, resume=resume)
    for folder in (*config.data, config.validation):
        path = None if folder is None else data_path(folder)
        if isinstance(path, Path):
            shard_paths(path)


def find_start(folder: Path, config: Config, stack: ExitStack, *, resume: bool) -> Start:
    """Inspect a run's folder and, if it exists, lock it; changes nothing else.

    It locks before inspecting, so that the result stays valid. A new run has no folder to lock;
    `begin` locks and creates it, so that an error in the settings leaves no trace.

    Args:
        folder: the run's folder.
        config: the settings.
        stack: holds the lock.
        resume: whether the run may resume.

    Raises:
        FsckitError: the folder exists and `resume` is false, another process uses it, or it
            contains a run with other settings.
    """
    if not folder.exists() or _is_blank(folder):
        return Start()
    finished = (folder / CHECKPOINT).exists()
    if not resume:
        kind = "a run" if finished else "an unfinished run"
        advice = "" if finished else "add `resume`, delete the folder, or "
        raise FsckitError(f"{folder}: already contains {kind}; {advice}choose another `name`")
    stack.enter_context(file_lock(folder, _IN_USE))
    _check_settings(folder, config)
    states = saved_states(folder)
    finished = (folder / CHECKPOINT).exists()
    return Start(finished=finished, resumes=True, state=states[-1] if states else None)


def begin(folder: Path, config: Config, start: Start, stack: ExitStack) -> None:
    """Create and lock a new run's folder, or clear the logs of an old one without a saved state.

    A new folder appears together with its config, because a folder without one could not be
    resumed after a kill.

    Raises:
        FsckitError: another process began a run of this name since `find_start`.
    """
    path = folder / CONFIG
    text = f"# fsctrain run --recipe {path} --name NAME\n{dump_config(config)}"
    if start.resumes:
        if start.state is None:
            for name in (METRICS, BAD_IMAGES):
                (folder / name).unlink(missing_ok=True)
        write_text(path, text)
        return
    stack.enter_context(file_lock(folder, _IN_USE))
    if folder.exists():
        if not _is_blank(folder):
            raise FsckitError(
                f"{folder}: another process has just created it; choose another `name`"
            )
        shutil.rmtree(folder)
    with atomic_folder(folder) as temporary:
        (temporary / CONFIG).write_text(text, encoding="utf-8")


def _is_blank(folder: Path) -> bool:
    """Whether a folder has only temporary files, as a killed start may leave it."""
    return folder.is_dir() and all(path.match(f".*{TEMPORARY}") for path in folder.iterdir())


def clean_up(folder: Path) -> None:
    """Remove what a finished run no longer needs, and a killed run's temporary files."""
    for left in (folder / FOLDER, *folder.glob(f"{BEST}-*"), *folder.glob(f".*{TEMPORARY}")):
        shutil.rmtree(left, ignore_errors=True)


def _check_settings(folder: Path, config: Config) -> None:
    """Raise FsckitError if a setting that affects the result differs from the earlier run's."""
    path = folder / CONFIG
    if not path.is_file():
        raise FsckitError(
            f"{folder}: not a run folder ({CONFIG} is missing); choose another `name`"
        )
    before = load_config(str(path), {})
    free = FREE - {"workers"} if config.stream else FREE  # a stream's order depends on the workers
    for name in Config.model_fields:
        old, new = getattr(before, name), getattr(config, name)
        if name not in free and old != new:
            if name in ("steps", "epochs") and (folder / CHECKPOINT).exists():
                raise FsckitError(
                    f"{folder}: finished with {name} {old}; to train its weights further, start a "
                    f"new run: set `pretrained` to {_weights_of(folder)} and `name` to another"
                )
            raise FsckitError(
                f"{path}: this run has {name} {old}, not {new}; to resume it, keep `{name}`, or "
                f"choose another `name`"
            )


def _weights_of(folder: Path) -> str:
    """The folder of a finished run's full weights, with the command that makes it, if needed."""
    if (folder / CHECKPOINT / "lora_config.json").is_file():
        return f"{folder / 'merged'} (made by 'fsctrain merge {folder}')"
    return str(folder)
