"""Merge a LoRA checkpoint into its base weights."""

from __future__ import annotations

from pathlib import Path

from fscdata.base.errors import FsckitError
from fsctrain.checkpoint import loading_line, save_checkpoint
from fsctrain.weights.load import find_checkpoint, load_tuned, refuse_to_overwrite


def merge(path: Path, out: Path | None = None, pretrained: str | None = None) -> tuple[Path, str]:
    """Merge LoRA's updates into the weights they were trained on.

    Args:
        path: a run's or a checkpoint's folder.
        out: the new folder; None for `merged` beside the checkpoint.
        pretrained: a path to the base weights, if they have moved.

    Returns:
        The path of the new weights, and the line of Python that loads them.

    Raises:
        FsckitError: `path` is not a LoRA checkpoint, `out` exists, or the base is wrong.
    """
    checkpoint = find_checkpoint(path)
    if not checkpoint.lora:
        raise FsckitError(
            f"{checkpoint.folder}: not a LoRA checkpoint; open_clip loads it directly, as "
            f"local-dir:{checkpoint.folder}"
        )
    folder = out or checkpoint.folder.parent / "merged"
    refuse_to_overwrite(folder)
    clip = load_tuned(checkpoint, pretrained)
    weights = save_checkpoint(folder, clip, base_digest=checkpoint.base_digest)
    return weights, loading_line(clip, weights)
