"""NegCLIP's loss (Yuksekgonul et al., ICLR 2023): negatives in the image-to-text softmax."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fsctrain.config import Config
from fsctrain.losses._features import Features

USES = frozenset({"styles"})


def compute(features: Features, config: Config) -> dict[str, Tensor]:
    """CLIP's loss, with every image told from all captions and all negatives of the batch."""
    negatives = features.negatives[features.negative_mask]  # [M, D]
    logits = features.logit_scale * features.images @ features.texts.T  # [B, B]
    hard = features.logit_scale * features.images @ negatives.T  # [B, M]
    labels = torch.arange(len(logits), device=logits.device)
    image_to_text = F.cross_entropy(torch.cat([logits, hard], dim=1), labels)
    return {"loss": (image_to_text + F.cross_entropy(logits.T, labels)) / 2}
