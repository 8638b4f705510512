"""From a run or a checkpoint folder to models: the fine-tuned one and its base."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import yaml
from safetensors import SafetensorError, safe_open

from fscdata.base.errors import FsckitError
from fsctrain.checkpoint import (
    BASE_DIGEST,
    LORA_CONFIG_NAME,
    LORA_NAME,
    WEIGHTS_NAME,
    read_lora,
    weights_digest,
)
from fsctrain.config import Config, load_config
from fsctrain.model import Clip, create_model
from fsctrain.model.create import CONFIG_NAME
from fsctrain.model.lora import apply_lora, load_lora_state, merge_lora
from fsctrain.run_folder import CHECKPOINT, CONFIG, METRICS

ALPHA = "wise_ft_alpha"  # in the metadata of interpolated weights


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on the disk.

    Attributes:
        folder: where it lies.
        run: the folder of the run that it comes from, where that is known.
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
        """The share of the fine-tuned weights, where these are interpolated."""
        return self._metadata().get(ALPHA)

    @property
    def base_digest(self) -> str | None:
        """The `weights_digest` of what it was trained from, where that is known."""
        return self._metadata().get(BASE_DIGEST)

    def _metadata(self) -> dict[str, str]:
        path = self.folder / (LORA_NAME if self.lora else WEIGHTS_NAME)
        try:
            with safe_open(path, "pt") as file:
                return file.metadata() or {}
        except (SafetensorError, OSError) as error:
            raise FsckitError(f"{path}: not a safetensors file ({error})") from None


def find_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint of a run, or the one that a folder is.

    A folder made from a run's checkpoint lies in the run's folder, and so is known to be its.

    Raises:
        FsckitError: it is neither, or the run has not finished.
    """
    if (path / CONFIG).is_file():
        run: Path | None = path
        folder = path / CHECKPOINT
        if not folder.is_dir():
            raise FsckitError(
                f"{path}: this run has no {CHECKPOINT}/ yet; let it finish, with --resume if it "
                f"was stopped"
            )
    elif (path / CONFIG_NAME).is_file():
        folder, parents = path, path.absolute().parents
        run = next((parent for parent in parents[:2] if _is_run(parent)), None)
    else:
        raise FsckitError(
            f"{path}: neither a run ({CONFIG}, {CHECKPOINT}/) nor a checkpoint's folder "
            f"({CONFIG_NAME})"
        )
    return Checkpoint(folder, run, _read_config(run / CONFIG) if run else None)


def _is_run(folder: Path) -> bool:
    """Whether it is a run's: a config.yaml alone may be of any project."""
    return all((folder / name).is_file() for name in (CONFIG, METRICS))


def _read_config(path: Path) -> Config:
    """A run's settings; the recipe is the one that it had, which for others is this file."""
    config = load_config(str(path), {})
    recipe = yaml.safe_load(path.read_text(encoding="utf-8")).get("recipe")
    return config.model_copy(update={"recipe": recipe})


def load_base(checkpoint: Checkpoint, pretrained: str | None) -> Clip:
    """The model that the training began with.

    Args:
        checkpoint: what came of it.
        pretrained: a path to its weights, or a tag; None for what was recorded: random weights
            are drawn again from the run's seed.

    Raises:
        FsckitError: nothing was recorded, it is not to be found, or it is another model.
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
            f"{checkpoint.folder}: no run's {CONFIG} says from which weights it was trained; give "
            f"a path to them with --pretrained"
        )
    source = pretrained or recorded
    # A tag belongs to a name and brings its activation; all else has the checkpoint's own.
    by_tag = name and source != "none" and not Path(source).is_file()
    own = str(checkpoint.folder / CONFIG_NAME)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clip = create_model(name if by_tag else own, source)
    return replace(clip, name=name or own)


def load_tuned(checkpoint: Checkpoint, pretrained: str | None = None) -> Clip:
    """The fine-tuned model; a LoRA checkpoint's updates are folded into their base.

    Args:
        checkpoint: a whole one or LoRA's.
        pretrained: where the base of LoRA's is, if not where it was.

    Raises:
        FsckitError: it cannot be read, or its base is not the one that was trained on.
    """
    if not checkpoint.lora:
        files = (str(checkpoint.folder / name) for name in (CONFIG_NAME, WEIGHTS_NAME))
        clip = create_model(*files)
        return replace(clip, name=checkpoint.config.model) if checkpoint.config else clip
    config, state = read_lora(checkpoint.folder)
    clip = load_base(checkpoint, pretrained)
    if weights_digest(clip.model.state_dict()) != config.base_digest:
        raise FsckitError(
            f"{checkpoint.folder}: its updates do not belong to the weights "
            f"'{pretrained or config.pretrained}' of {config.model}, which differ from those that "
            f"it was trained on; give the right ones to 'fsctrain merge' with --pretrained"
        )
    with torch.random.fork_rng(devices=[]):
        apply_lora(clip.model, config.rank, config.alpha)
    load_lora_state(clip.model, state)
    merge_lora(clip.model)
    return clip


def refuse_to_overwrite(folder: Path) -> None:
    """Raises FsckitError where a folder, or a file, of this name is there."""
    if folder.exists():
        raise FsckitError(f"{folder}: there is a folder of this name; give another with --out")
