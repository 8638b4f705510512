"""NegCLIP's loss (Yuksekgonul et al., ICLR 2023): negatives in the image-to-text softmax.

The published trainer also adds mined similar images to the batch. They are omitted: no table
records which images look alike, and FSC-CLIP's NegCLIP runs do not use them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fsctrain.config import Config
from fsctrain.losses._features import Features, GlobalBatch
from fsctrain.losses.clip import contrastive

USES = frozenset({"styles"})


def compute(features: Features, global_batch: GlobalBatch, config: Config) -> dict[str, Tensor]:
    """CLIP's loss, contrasting every image with all captions and all negatives of the batch."""
    images = global_batch.images[global_batch.rows]  # [R, D]
    logits = features.logit_scale * images @ global_batch.negatives.flatten(0, 1).T  # [R, G·N]
    lowest = torch.finfo(logits.dtype).min  # −inf would make the gradient NaN
    logits = logits.masked_fill(~global_batch.negative_mask.flatten(), lowest)
    return {"loss": contrastive(features, global_batch, config, logits)}
