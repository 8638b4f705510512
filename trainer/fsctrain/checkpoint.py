"""Checkpoints that plain open_clip loads."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file

from fscdata.contract import FsckitError
from fsctrain.model import Clip

WEIGHTS_NAME = "open_clip_model.safetensors"
CONFIG_NAME = "open_clip_config.json"


def save_checkpoint(folder: Path, clip: Clip) -> Path:
    """Write a model's weights and configuration into a new folder; returns the weights' path.

    The folder appears whole or not at all. `open_clip.create_model("local-dir:FOLDER")` reads
    it; so does `open_clip.create_model(NAME, pretrained=PATH)`. The weights' file carries the
    configuration too, so that the activation is not lost where the file is copied alone.

    Raises:
        FsckitError: the weights cannot be written: a full disk, say.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    if temporary.exists():
        shutil.rmtree(temporary)
    temporary.mkdir(parents=True)
    state = {name: t.detach().cpu().contiguous() for name, t in clip.model.state_dict().items()}
    metadata = {"format": "pt", "model_cfg": json.dumps(clip.model_cfg)}
    try:
        save_file(state, temporary / WEIGHTS_NAME, metadata=metadata)
    except SafetensorError as error:
        raise FsckitError(f"{temporary / WEIGHTS_NAME}: cannot be written ({error})") from None
    config = {"model_cfg": clip.model_cfg, "preprocess_cfg": clip.preprocess_cfg}
    (temporary / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    # safetensors makes a file that its owner alone can read; runs are shared like other files.
    (temporary / WEIGHTS_NAME).chmod((temporary / CONFIG_NAME).stat().st_mode)
    for path in (*temporary.iterdir(), temporary):
        _sync(path)
    temporary.rename(folder)
    _sync(folder.parent)
    return folder / WEIGHTS_NAME


def loading_line(clip: Clip, weights: Path) -> str:
    """The line of Python that loads a checkpoint with open_clip, its activation included."""
    if not clip.builtin:
        return f"open_clip.create_model({f'local-dir:{weights.parent}'!r})"
    activation = ", force_quick_gelu=True" if clip.quick_gelu else ""
    return f"open_clip.create_model({clip.name!r}, pretrained={str(weights)!r}{activation})"


def _sync(path: Path) -> None:
    """Have the disk hold a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
