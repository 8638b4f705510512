"""CLIP's loss (Radford et al., "Learning transferable visual models", ICML 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fsctrain.config import Config
from fsctrain.losses._features import Features

USES: frozenset[str] = frozenset()


def compute(features: Features, config: Config) -> dict[str, Tensor]:
    """Symmetric cross-entropy over s·V·Tᵀ of the batch."""
    return {"loss": contrastive(features)}


def contrastive(features: Features) -> Tensor:
    """Mean of the image-to-text and the text-to-image cross-entropy, a scalar."""
    logits = features.logit_scale * features.images @ features.texts.T  # [B, B]
    labels = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
