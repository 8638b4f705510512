"""CLIP's loss (Radford et al., "Learning transferable visual models", ICML 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fsctrain.config import Config
from fsctrain.losses._features import Features, Whole

USES: frozenset[str] = frozenset()


def compute(features: Features, whole: Whole, config: Config) -> dict[str, Tensor]:
    """Symmetric cross-entropy over s·V·Tᵀ of the batch."""
    return {"loss": contrastive(features, whole)}


def contrastive(features: Features, whole: Whole, others: Tensor | None = None) -> Tensor:
    """Mean of the image-to-text and the text-to-image cross-entropy over the batch's rows.

    Args:
        features: of which the logit scale is taken.
        whole: the batch of all ranks.
        others: logits [rows, M] of more texts that an image is told from; None where there are
            none.

    Returns:
        A scalar, this rank's part of the mean: the sum over the ranks is the mean.
    """
    images, texts = whole.images[whole.rows], whole.texts[whole.rows]  # [R, D]
    labels = torch.arange(len(whole.images), device=images.device)[whole.rows]
    to_text = features.logit_scale * images @ whole.texts.T  # [R, G]
    to_image = features.logit_scale * texts @ whole.images.T  # [R, G]
    if others is not None:
        to_text = torch.cat([to_text, others], dim=1)
    losses = [F.cross_entropy(logits, labels, reduction="sum") for logits in (to_text, to_image)]
    return (losses[0] + losses[1]) / (2 * len(whole.images)) * whole.share
