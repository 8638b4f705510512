"""CLIP's loss (Radford et al., "Learning transferable visual models", ICML 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fsctrain.config import Config
from fsctrain.losses._features import Features, GlobalBatch

USES: frozenset[str] = frozenset()


def compute(features: Features, global_batch: GlobalBatch, config: Config) -> dict[str, Tensor]:
    """Symmetric cross-entropy over the logits s·V·Tᵀ of the batch."""
    return {"loss": contrastive(features, global_batch, config)}


def contrastive(
    features: Features,
    global_batch: GlobalBatch,
    config: Config,
    extra_logits: Tensor | None = None,
) -> Tensor:
    """Mean of the image-to-text and the text-to-image cross-entropy over the batch's rows.

    With `mask_same_image`, other rows of a row's image leave its softmax: their captions are true.

    Args:
        features: this rank's features; only the logit scale is used.
        global_batch: the batch of all ranks.
        config: the settings.
        extra_logits: [rows, M] logits of additional texts in the image-to-text softmax.

    Returns:
        A scalar, this rank's part of the mean: the parts of all ranks add up to it.
    """
    images, texts = (
        global_batch.images[global_batch.rows],
        global_batch.texts[global_batch.rows],
    )  # [R, D]
    labels = torch.arange(len(global_batch.images), device=images.device)[global_batch.rows]
    to_text = features.logit_scale * images @ global_batch.texts.T  # [R, G]
    to_image = features.logit_scale * texts @ global_batch.images.T  # [R, G]
    if config.mask_same_image and (ids := global_batch.image_ids) is not None:
        own = torch.arange(len(ids), device=ids.device) == labels[:, None]  # [R, G]
        same = (ids == ids[global_batch.rows][:, None]) & ~own
        lowest = torch.finfo(to_text.dtype).min  # −inf could make the gradient NaN
        to_text, to_image = (logits.masked_fill(same, lowest) for logits in (to_text, to_image))
    if extra_logits is not None:
        to_text = torch.cat([to_text, extra_logits], dim=1)
    losses = [F.cross_entropy(logits, labels, reduction="sum") for logits in (to_text, to_image)]
    return (losses[0] + losses[1]) / (2 * len(global_batch.images)) * global_batch.share
