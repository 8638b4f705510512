"""FSC-CLIP's loss (Oh et al., EMNLP 2024): global and local hard-negative losses added to CLIP's.

Both classify an image's caption against its own negatives, with a focal loss and smoothed labels.
The global loss scores whole texts by their features, the local loss by how well each word matches
the patches it attends to.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fsctrain.config import Config
from fsctrain.losses._features import Features, GlobalBatch
from fsctrain.losses.clip import contrastive

USES = frozenset({"styles", "global_weight", "local_weight"})


def compute(features: Features, global_batch: GlobalBatch, config: Config) -> dict[str, Tensor]:
    """CLIP + λ_g·global + λ_l·local; parts with weight 0 are skipped."""
    parts = {"clip": contrastive(features, global_batch, config)}
    loss = parts["clip"]
    for name, weight, scores in (
        ("global", config.global_weight, global_scores),
        ("local", config.local_weight, local_scores),
    ):
        if weight:
            losses = hard_negative_losses(
                scores(features), features.negative_mask, config.focal_gamma, config.label_smoothing
            )
            parts[name] = losses.sum() / global_batch.rows_with_negatives.clamp_min(1)
            loss = loss + weight * parts[name]
    return {"loss": loss, **parts}


def hard_negative_losses(
    scores: Tensor, negative_mask: Tensor, gamma: float, alpha: float
) -> Tensor:
    """Focal loss with smoothed labels for the (1 + N)-way choice of a caption among its negatives.

    Args:
        scores: [B, 1 + N] logits, the caption's first.
        negative_mask: bool [B, N]; missing negatives are excluded from the softmax.
        gamma: focal exponent (Lin et al., "Focal loss for dense object detection", ICCV 2017).
        alpha: label smoothing, spread over the caption and its k negatives.

    Returns:
        The loss of each row, [B]; 0 for a row without negatives.
    """
    exists = F.pad(negative_mask, (1, 0), value=True)  # [B, 1 + N]
    lowest = torch.finfo(scores.dtype).min  # −inf would make the gradient NaN
    log_p = scores.masked_fill(~exists, lowest).log_softmax(1)
    log_p = log_p.masked_fill(~exists, 0)

    share = alpha / exists.sum(1, keepdim=True, dtype=scores.dtype)  # α / (k + 1)
    target = exists * share
    target = torch.cat([target[:, :1] + (1 - alpha), target[:, 1:]], dim=1)
    # Keep 1 − p above 0: for γ < 1 the slope of the power is infinite at 0.
    rest = (-torch.expm1(log_p)).clamp_min(torch.finfo(scores.dtype).eps)  # 1 − p
    losses = -(target * rest**gamma * log_p).sum(1)  # [B]
    return losses * negative_mask.any(1)


def global_scores(features: Features) -> Tensor:
    """s·cos(image, text) of each image with its caption and negatives: [B, 1 + N]."""
    texts = torch.cat([features.texts[:, None], features.negatives], dim=1)  # [B, 1 + N, D]
    return features.logit_scale * torch.einsum("bd,btd->bt", features.images, texts)


def local_scores(features: Features) -> Tensor:
    """logsumexp over a text's words of s·cos(word, attended patches): [B, 1 + N].

    A word attends to the mean of the patches, weighted by their similarity to it. The weights are
    similarities without gradient, scaled to [0, 1] over the patches; if all are equal, the mean is
    unweighted.
    """
    patches, words, mask = features.image_tokens, features.text_tokens, features.text_token_mask
    assert patches is not None and words is not None and mask is not None
    batch, texts, length, width = words.shape
    words = words.reshape(batch, texts * length, width)  # [B, T, D]
    with torch.no_grad():
        similarity = words @ patches.transpose(1, 2)  # [B, T, P]
        low, high = similarity.aminmax(dim=2, keepdim=True)
        weights = torch.where(high > low, (similarity - low) / (high - low), 1.0)
        weights = weights / weights.sum(2, keepdim=True)
    attended = F.normalize(weights @ patches, dim=2)  # [B, T, D]
    scores = features.logit_scale * (attended * F.normalize(words, dim=2)).sum(2)  # [B, T]
    # A missing text has no words: a finite fill value keeps NaN out of the gradient.
    lowest = torch.finfo(scores.dtype).min
    return scores.view(batch, texts, length).masked_fill(~mask, lowest).logsumexp(2)
