"""FSC-CLIP's loss (Oh et al., EMNLP 2024): global and local hard-negative losses beside CLIP's.

Both tell an image's true caption from its own negatives, focally and with smoothed labels; the
global one by the features, the local one by how well each word finds its place in the image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fsctrain.config import Config
from fsctrain.losses._features import Features, Whole
from fsctrain.losses.clip import contrastive

USES = frozenset({"styles", "global_weight", "local_weight"})


def compute(features: Features, whole: Whole, config: Config) -> dict[str, Tensor]:
    """CLIP + λ_g·global + λ_l·local; a part of weight 0 is not computed."""
    parts = {"clip": contrastive(features, whole)}
    loss = parts["clip"]
    for name, weight, scores in (
        ("global", config.global_weight, global_scores),
        ("local", config.local_weight, local_scores),
    ):
        if weight:
            losses = hard_negative_losses(
                scores(features), features.negative_mask, config.focal_gamma, config.label_smoothing
            )
            parts[name] = losses.sum() / whole.rows_with_negatives.clamp_min(1)
            loss = loss + weight * parts[name]
    return {"loss": loss, **parts}


def hard_negative_losses(
    scores: Tensor, negative_mask: Tensor, gamma: float, alpha: float
) -> Tensor:
    """Focal loss with smoothed labels of the (N+1)-way choice between a caption and its negatives.

    Args:
        scores: [B, 1 + N] logits, the true caption's first.
        negative_mask: bool [B, N]; a negative that is not there takes no part in the softmax.
        gamma: focal exponent (Lin et al., "Focal loss for dense object detection", ICCV 2017).
        alpha: label smoothing, shared by the true caption and the k negatives that are there.

    Returns:
        Each row's loss, [B]; 0 where it has no negative.
    """
    there = F.pad(negative_mask, (1, 0), value=True)  # [B, 1 + N]
    lowest = torch.finfo(scores.dtype).min  # −inf would make NaN of the gradient
    log_p = scores.masked_fill(~there, lowest).log_softmax(1)
    log_p = log_p.masked_fill(~there, 0)

    share = alpha / there.sum(1, keepdim=True, dtype=scores.dtype)  # α / (k + 1)
    target = there * share
    target = torch.cat([target[:, :1] + (1 - alpha), target[:, 1:]], dim=1)
    # Above 0, since for γ < 1 the power has no slope at 0.
    rest = (-torch.expm1(log_p)).clamp_min(torch.finfo(scores.dtype).eps)  # 1 − p
    losses = -(target * rest**gamma * log_p).sum(1)  # [B]
    return losses * negative_mask.any(1)


def global_scores(features: Features) -> Tensor:
    """s·cos of each image with its caption and its negatives: [B, 1 + N]."""
    texts = torch.cat([features.texts[:, None], features.negatives], dim=1)  # [B, 1 + N, D]
    return features.logit_scale * torch.einsum("bd,btd->bt", features.images, texts)


def local_scores(features: Features) -> Tensor:
    """logsumexp over a text's words of s·cos(the word, what it sees of the image): [B, 1 + N].

    A word sees the mean of the patches, weighted by their similarity to it. The similarities are
    detached and brought to [0, 1] over the patches; equal ones weigh the same.
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
    seen = F.normalize(weights @ patches, dim=2)  # [B, T, D]
    scores = features.logit_scale * (seen * F.normalize(words, dim=2)).sum(2)  # [B, T]
    # A text that is not there has no word at all: a finite filling keeps NaN out of its gradient.
    lowest = torch.finfo(scores.dtype).min
    return scores.view(batch, texts, length).masked_fill(~mask, lowest).logsumexp(2)
