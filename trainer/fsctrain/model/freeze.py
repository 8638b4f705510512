"""Towers, or their lower layers, that are not trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import open_clip
from open_clip.transformer import VisionTransformer
from torch import nn

from fscdata.base.errors import FsckitError
from fsctrain.model.create import OpenClip

Blocks = int | Literal["all"]
Part = nn.Module | nn.Parameter


def freeze(model: OpenClip, image: Blocks, text: Blocks) -> None:
    """Freeze the lowest blocks of the towers, with all that lies below them, in place.

    Below the blocks lie the embeddings of words, positions and class, the patch convolution and
    the layer norm before the first block. `all` is a whole tower, its projection included; a
    frozen tower's batch norms keep their statistics. The logit scale is trained always. LiT (Zhai
    et al., CVPR 2022) is `all` for the image tower.

    Args:
        model: an open_clip model that `check_towers` accepts.
        image: how many blocks of the image tower, 0 for nothing, or `all`.
        text: the same of the text tower.

    Raises:
        FsckitError: nothing would be left to train, a tower has fewer blocks, or it is none of
            blocks: a ResNet can be frozen as a whole only.
    """
    if image == text == "all":
        raise FsckitError(
            "--freeze-image all and --freeze-text all leave nothing to train; free one of them"
        )
    if image == "all":
        model.lock_image_tower(unlocked_groups=0, freeze_bn_stats=True)
    elif image:
        visual = model.visual
        if not isinstance(visual, VisionTransformer):
            raise FsckitError(
                f"--freeze-image {image}: the image tower ({type(visual).__name__}) has no "
                f"transformer blocks; give 0 or all"
            )
        below = [visual.conv1, visual.class_embedding, visual.positional_embedding, visual.ln_pre]
        _freeze(below, visual.transformer.resblocks, image, "--freeze-image")
    if text == "all":
        model.lock_text_tower(unlocked_layers=0)
    elif text:
        tower = model if isinstance(model, open_clip.CLIP) else model.text
        below = [tower.token_embedding, tower.positional_embedding]
        _freeze(below, tower.transformer.resblocks, text, "--freeze-text")


def _freeze(below: Sequence[Part], blocks: Sequence[nn.Module], number: int, option: str) -> None:
    if number > len(blocks):
        raise FsckitError(
            f"{option} {number}: this tower has {len(blocks)} blocks; give at most that, or all"
        )
    for part in (*below, *blocks[:number]):
        part.requires_grad_(False)
