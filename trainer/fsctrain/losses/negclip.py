"""NegCLIP's loss (Yuksekgonul et al., ICLR 2023): negatives in the image-to-text softmax."""

from __future__ import annotations

import torch
from torch import Tensor

from fsctrain.config import Config
from fsctrain.losses._features import Features, Whole
from fsctrain.losses.clip import contrastive

USES = frozenset({"styles"})


def compute(features: Features, whole: Whole, config: Config) -> dict[str, Tensor]:
    """CLIP's loss, with every image told from all captions and all negatives of the batch."""
    images = whole.images[whole.rows]  # [R, D]
    logits = features.logit_scale * images @ whole.negatives.flatten(0, 1).T  # [R, G·N]
    lowest = torch.finfo(logits.dtype).min  # −inf would make NaN of the gradient
    there = whole.negative_mask.flatten()
    return {"loss": contrastive(features, whole, logits.masked_fill(~there, lowest))}
