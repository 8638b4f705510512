"""Freeze towers or their lower layers."""

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
    """Freeze the lowest blocks of the towers and everything below them, in place.

    Below the blocks are the word, position and class embeddings, the patch convolution and the
    layer norm before the first block. `all` freezes a tower with its projection and its batch
    norm statistics. The logit scale is always trained. LiT (Zhai et al., CVPR 2022) freezes the
    whole image tower.

    Args:
        model: an open_clip model that `check_towers` accepts.
        image: number of image tower blocks to freeze, or `all`.
        text: the same for the text tower.

    Raises:
        FsckitError: nothing is left to train, or a tower has fewer blocks or no transformer blocks
            (a ResNet can only be frozen entirely).
    """
    if image == text == "all":
        raise FsckitError(
            "`freeze_image` all and `freeze_text` all leave nothing to train; unfreeze one of them"
        )
    if image == "all":
        model.lock_image_tower(unlocked_groups=0, freeze_bn_stats=True)
    elif image:
        visual = model.visual
        if not isinstance(visual, VisionTransformer):
            raise FsckitError(
                f"`freeze_image` {image}: the image tower ({type(visual).__name__}) has no "
                f"transformer blocks; set 0 or all"
            )
        below = [visual.conv1, visual.class_embedding, visual.positional_embedding, visual.ln_pre]
        _freeze(below, visual.transformer.resblocks, image, "freeze_image")
    if text == "all":
        model.lock_text_tower(unlocked_layers=0)
    elif text:
        # A CustomTextCLIP keeps its text tower in `text`, a CLIP in itself.
        tower = model if isinstance(model, open_clip.CLIP) else model.text
        below = [tower.token_embedding, tower.positional_embedding]
        _freeze(below, tower.transformer.resblocks, text, "freeze_text")


def _freeze(below: Sequence[Part], blocks: Sequence[nn.Module], number: int, setting: str) -> None:
    if number > len(blocks):
        raise FsckitError(
            f"`{setting}` {number}: this tower has only {len(blocks)} blocks; set fewer, or all"
        )
    for part in (*below, *blocks[:number]):
        part.requires_grad_(False)
