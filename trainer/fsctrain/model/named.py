"""Names of models on disk and on the hub: `local-dir:`, `hf-hub:`, a run, a checkpoint."""

from __future__ import annotations

from pathlib import Path

from fscdata.base.errors import FsckitError, first_line
from fsctrain.saved_states import CHECKPOINT, CONFIG

CONFIG_NAME = "open_clip_config.json"  # open_clip's `local-dir:` expects this name
LOCAL, HUB = "local-dir:", "hf-hub:"
WEIGHTS_NAME = "open_clip_model.safetensors"
LORA_CONFIG_NAME = "lora_config.json"
# open_clip's names of weights, the safe format first.
_WEIGHTS = (
    WEIGHTS_NAME,
    "model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)


def is_named(name: str) -> bool:
    """Whether a name stands for a folder or a hub repository, not for a tag or a file."""
    return name.startswith((LOCAL, HUB)) or Path(name).is_dir()


def model_folder(name: str) -> Path:
    """The folder of a named model, which holds its configuration; downloads one from the hub.

    Raises:
        FsckitError: the folder or repository holds no model, or the download fails.
    """
    if name.startswith(HUB):
        return _download(name)
    folder = Path(name.removeprefix(LOCAL))
    if (folder / CONFIG).is_file():
        folder /= CHECKPOINT
        if not folder.is_dir():
            raise FsckitError(f"{name}: this run has not finished; resume it, or choose another")
    if not (folder / CONFIG_NAME).is_file():
        raise FsckitError(
            f"{name}: neither a run nor a checkpoint folder ({CONFIG_NAME} is missing)"
        )
    return folder


def named_weights(name: str) -> Path:
    """The weights of a named model.

    Raises:
        FsckitError: see `model_folder`; or it is a LoRA checkpoint, which needs its base.
    """
    folder = model_folder(name)
    for file in _WEIGHTS:
        if (folder / file).is_file():
            return folder / file
    if (folder / LORA_CONFIG_NAME).is_file():
        raise FsckitError(
            f"{name}: a LoRA checkpoint; run 'fsctrain merge {name}', then use the merged folder"
        )
    raise FsckitError(f"{name}: has no weights ({', '.join(_WEIGHTS)})")


def _download(name: str) -> Path:
    # Imported here because it takes a while, and few runs start from the hub.
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    try:
        # The configuration and one file of weights, not the other formats that a hub may hold.
        patterns = [CONFIG_NAME, *_WEIGHTS[:1]]
        folder = Path(snapshot_download(name.removeprefix(HUB), allow_patterns=patterns))
        if not (folder / _WEIGHTS[0]).is_file():
            patterns = [CONFIG_NAME, *_WEIGHTS]
            folder = Path(snapshot_download(name.removeprefix(HUB), allow_patterns=patterns))
    except Exception as error:  # the hub's client raises many types
        raise FsckitError(
            f"{name}: download failed ({first_line(error)}); pass the path to a folder instead"
        ) from None
    if not (folder / CONFIG_NAME).is_file():
        raise FsckitError(f"{name}: not an open_clip model ({CONFIG_NAME} is missing)")
    return folder
