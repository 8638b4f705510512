"""Load models from a run or a checkpoint folder: the fine-tuned one and its base."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from fscdata.base.errors import FsckitError, first_line
from fsctrain.checkpoint import (
    BASE_DIGEST,
    LORA_NAME,
    read_lora,
    weights_digest,
)
from fsctrain.config import Config, load_config
from fsctrain.model import Clip, create_model
from fsctrain.model.lora import apply_lora, load_lora_state, merge_lora
from fsctrain.model.named import (
    CONFIG_NAME,
    HUB,
    LOCAL,
    LORA_CONFIG_NAME,
    WEIGHTS_NAME,
    is_named,
    model_folder,
)
from fsctrain.recipes import read_recipe
from fsctrain.run_folder import METRICS
from fsctrain.saved_states import CHECKPOINT, CONFIG

ALPHA = "wise_ft_alpha"  # key in the metadata of interpolated weights


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk.

    Attributes:
        folder: its folder.
        run: the folder of the run it belongs to, if known.
        config: that run's settings.
    """

    folder: Path
    run: Path | None
    config: Config | None

    @property
    def lora(self) -> bool:
        return (self.folder / LORA_CONFIG_NAME).is_file()

    @property
    def alpha(self) -> str | None:
        """The share of the fine-tuned weights, if interpolated."""
        return self._metadata().get(ALPHA)

    @property
    def base_digest(self) -> str | None:
        """The `weights_digest` of the weights it was trained from, if recorded."""
        return self._metadata().get(BASE_DIGEST)

    def _metadata(self) -> dict[str, str]:
        path = self.folder / (LORA_NAME if self.lora else WEIGHTS_NAME)
        try:
            with safe_open(path, "pt") as file:
                return file.metadata() or {}
        except (SafetensorError, OSError) as error:
            raise FsckitError(f"{path}: not a safetensors file ({first_line(error)})") from None


def find_checkpoint(path: Path) -> Checkpoint:
    """Find a checkpoint: a run's folder, its own, `local-dir:FOLDER` or `hf-hub:OWNER/NAME`.

    A checkpoint inside a run's folder belongs to that run.

    Raises:
        FsckitError: the folder is neither, or the run has not finished.
    """
    if str(path).startswith((HUB, LOCAL)):
        path = model_folder(str(path))
    if (path / CONFIG).is_file():
        run: Path | None = path
        folder = path / CHECKPOINT
        if not folder.is_dir():
            raise FsckitError(
                f"{path}: this run has no {CHECKPOINT}/ yet; wait for it to finish, or resume it"
            )
    elif (path / CONFIG_NAME).is_file():
        folder, parents = path, path.absolute().parents
        run = next((parent for parent in parents[:2] if _is_run(parent)), None)
    else:
        raise FsckitError(
            f"{path}: neither a run folder ({CONFIG}, {CHECKPOINT}/) nor a checkpoint folder "
            f"({CONFIG_NAME})"
        )
    return Checkpoint(folder, run, _read_config(run / CONFIG) if run else None)


def _is_run(folder: Path) -> bool:
    """Whether a folder is a run's; config.yaml alone could belong to any project."""
    return all((folder / name).is_file() for name in (CONFIG, METRICS))


def _read_config(path: Path) -> Config:
    """A run's settings, with the recipe that it used instead of config.yaml itself."""
    config = load_config(str(path), {})
    recipe = read_recipe(str(path)).settings.get("recipe")
    return config.model_copy(update={"recipe": recipe})


def load_base(checkpoint: Checkpoint, pretrained: str | None) -> Clip:
    """Load the model that training started from.

    Args:
        checkpoint: the fine-tuned checkpoint.
        pretrained: a path to the weights, or a tag; None for the recorded ones. Recorded random
            weights are drawn again from the run's seed.

    Raises:
        FsckitError: no weights are recorded, they cannot be found, or they do not fit the model.
    """
    if checkpoint.lora:
        lora = read_lora(checkpoint.folder)[0]
        name, recorded, seed = lora.model, lora.pretrained, lora.seed
    elif checkpoint.config is not None:
        config = checkpoint.config
        name, recorded, seed = config.model, config.pretrained, config.seed
    elif pretrained is not None:
        name, recorded, seed = "", pretrained, 0
    else:
        raise FsckitError(
            f"{checkpoint.folder}: its pretrained weights are unknown, because its run's {CONFIG} "
            f"is missing; pass their path as `pretrained`"
        )
    source = pretrained or recorded
    # A tag belongs to a model name and determines the activation; otherwise the checkpoint does.
    on_disk = Path(source).is_file() or is_named(source)
    by_tag = name and source != "none" and not on_disk
    own = str(checkpoint.folder / CONFIG_NAME)
    # Redraw the run's random base weights without disturbing the caller's generator.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clip = create_model(name if by_tag else own, source)
    return replace(clip, name=name or own)


def load_tuned(checkpoint: Checkpoint, pretrained: str | None = None) -> Clip:
    """Load the fine-tuned model; a LoRA checkpoint is merged into its base.

    Args:
        checkpoint: a full or a LoRA checkpoint.
        pretrained: the base weights of a LoRA checkpoint, if they have moved.

    Raises:
        FsckitError: a file cannot be read, or the base is not the one that LoRA was trained on.
    """
    if not checkpoint.lora:
        files = (str(checkpoint.folder / name) for name in (CONFIG_NAME, WEIGHTS_NAME))
        clip = create_model(*files)
        return replace(clip, name=checkpoint.config.model) if checkpoint.config else clip
    config, state = read_lora(checkpoint.folder)
    clip = load_base(checkpoint, pretrained)
    if weights_digest(clip.model.state_dict()) != config.base_digest:
        raise FsckitError(
            f"{checkpoint.folder}: its LoRA updates were not trained on the weights "
            f"'{pretrained or config.pretrained}' of {config.model}; merge them with the right "
            f"`pretrained` weights"
        )
    # The initial draw of LoRA's A is overwritten next; keep it out of the caller's generator.
    with torch.random.fork_rng(devices=[]):
        apply_lora(clip.model, config.rank, config.alpha, config.conv)
    load_lora_state(clip.model, state)
    merge_lora(clip.model)
    return clip


def refuse_to_overwrite(folder: Path) -> None:
    """Raise FsckitError if a file or folder of this name exists."""
    if folder.exists():
        raise FsckitError(f"{folder}: already exists; choose another `out`")
