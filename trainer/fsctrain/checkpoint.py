"""Checkpoints: full ones, which plain open_clip loads, and LoRA ones of a few megabytes."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fscdata.base.errors import FsckitError, first_line
from fscdata.base.files import atomic_folder
from fsctrain.model import Clip
from fsctrain.model.lora import PATCH_WEIGHT, ConvRank, base_state, lora_state, lora_updates
from fsctrain.model.named import CONFIG_NAME, LOCAL, LORA_CONFIG_NAME, WEIGHTS_NAME

LORA_NAME = "lora.safetensors"
# Metadata key of full weights: LoRA and WiSE-FT need the exact weights that a run started from, and
# must refuse others of the same name.
BASE_DIGEST = "base_digest"


class LoraConfig(BaseModel):
    """A LoRA checkpoint's updates and the base weights they belong to.

    `pretrained` is the run's: a tag, an absolute path, or `none` for random weights drawn right
    after `torch.manual_seed(seed)`. `base_digest` is the `weights_digest` of the base.
    """

    model_config = ConfigDict(frozen=True)

    rank: int = Field(ge=1)
    alpha: float = Field(gt=0)
    conv: ConvRank = "rank"  # older checkpoints do not record it
    model: str
    pretrained: str
    seed: int
    base_digest: str


def save_checkpoint(
    folder: Path,
    clip: Clip,
    *,
    base_digest: str | None = None,
    pretrained: str | None = None,
    seed: int = 0,
) -> Path:
    """Write a model into a new folder, atomically; returns the path of the weights.

    `open_clip.create_model("local-dir:FOLDER")` and
    `open_clip.create_model(NAME, pretrained=PATH)` load it. If the model has LoRA, only the
    updates are written.

    Args:
        folder: the new folder.
        clip: the model.
        base_digest: `weights_digest` of the weights the model was trained from. If None, a full
            checkpoint does not record it, and LoRA's base is hashed here.
        pretrained, seed: how the model was created; required with LoRA, to recreate its base.

    Raises:
        FsckitError: the weights cannot be written, for example because the disk is full.
        ValueError: the model has LoRA, and `pretrained` is missing.
    """
    updates = lora_updates(clip.model)
    if not updates:
        with atomic_folder(folder) as temporary:
            metadata = {BASE_DIGEST: base_digest} if base_digest else {}
            write_weights(temporary, clip, clip.model.state_dict(), metadata)
        return folder / WEIGHTS_NAME
    if pretrained is None:
        raise ValueError("`pretrained` is missing: a LoRA checkpoint records its base weights")
    update = next(iter(updates.values()))
    path = Path(pretrained.removeprefix(LOCAL))
    config = LoraConfig(
        rank=update.rank,
        alpha=update.alpha,
        conv=update.conv,
        model=clip.name,
        pretrained=str(path.absolute()) if path.exists() else pretrained,
        seed=seed,
        base_digest=base_digest or weights_digest(base_state(clip.model)),
    ).model_dump()
    metadata = {name: str(value) for name, value in config.items()}
    with atomic_folder(folder) as temporary:
        _write(temporary, clip, LORA_NAME, lora_state(clip.model), metadata)
        _write_json(temporary / LORA_CONFIG_NAME, config)
    return folder / LORA_NAME


def weights_name(clip: Clip) -> str:
    """The name of the weights file that `save_checkpoint` writes."""
    return LORA_NAME if lora_updates(clip.model) else WEIGHTS_NAME


def write_weights(
    folder: Path, clip: Clip, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a full checkpoint into an existing folder: configuration and state dict.

    The metadata of the weights file is `metadata` plus the configuration, so that a copy of
    only this file keeps the activation.

    Raises:
        FsckitError: a file cannot be written.
    """
    _write(folder, clip, WEIGHTS_NAME, state, dict(metadata or {}))


def read_lora(folder: Path) -> tuple[LoraConfig, dict[str, Tensor]]:
    """Read a LoRA checkpoint: its configuration and its matrices.

    Raises:
        FsckitError: a file is missing or damaged.
    """
    path = folder / LORA_CONFIG_NAME
    try:
        config = LoraConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise FsckitError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise FsckitError(f"{path}: not a LoRA checkpoint ({where}: {first['msg']})") from None
    weights = folder / LORA_NAME
    try:
        state = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise FsckitError(f"{weights}: not a safetensors file ({first_line(error)})") from None
    ranks = {name.removesuffix(".A"): len(t) for name, t in state.items() if name.endswith(".A")}
    if config.conv == "full":
        ranks.pop(PATCH_WEIGHT, None)
    if any(rank != config.rank for rank in ranks.values()):
        raise FsckitError(
            f"{weights}: expected matrices of rank {config.rank}, as stated in {path}"
        )
    return config, state


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """A hash of the names, types, shapes and bits of weights."""
    digest = hashlib.sha256()
    # Sorted, because a state dict's order depends on how the model was built.
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        bits = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
        digest.update(bits.numpy().data)
    return digest.hexdigest()


def loading_line(clip: Clip, weights: Path) -> str:
    """The line of Python that loads a checkpoint in open_clip, with its activation.

    For a LoRA checkpoint: the command that merges it first.
    """
    if weights.name == LORA_NAME:
        return f"fsctrain merge {shlex.quote(str(weights.parent))}"
    if not clip.builtin:
        return f"open_clip.create_model({f'local-dir:{weights.parent}'!r})"
    activation = ", force_quick_gelu=True" if clip.quick_gelu else ""
    return f"open_clip.create_model({clip.name!r}, pretrained={str(weights)!r}{activation})"


def _write(
    folder: Path, clip: Clip, name: str, state: Mapping[str, Tensor], metadata: dict[str, str]
) -> None:
    """Write a safetensors file, and open_clip's configuration beside it."""
    tensors = {key: t.detach().cpu().contiguous() for key, t in state.items()}
    metadata |= {"format": "pt", "model_cfg": json.dumps(clip.model_cfg)}
    try:
        save_file(tensors, folder / name, metadata=metadata)
    except SafetensorError as error:
        raise FsckitError(f"{folder / name}: cannot be written ({first_line(error)})") from None
    _sort_metadata(folder / name)
    config = {"model_cfg": clip.model_cfg, "preprocess_cfg": clip.preprocess_cfg}
    _write_json(folder / CONFIG_NAME, config)
    # safetensors creates files that only their owner can read; use the usual mode.
    (folder / name).chmod((folder / CONFIG_NAME).stat().st_mode)


def _sort_metadata(path: Path) -> None:
    """Sort the metadata of a safetensors file in place.

    safetensors writes it in random order, so equal weights would give files of different digests.
    """
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        content = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(content) <= size, "only the order has changed"
        file.seek(8)
        file.write(content.ljust(size))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
