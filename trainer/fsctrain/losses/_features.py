"""What a loss is given."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Features:
    """One batch after the model: B images with their captions, N negatives a caption at most.

    Attributes:
        images: unit vectors [B, D].
        texts: unit vectors [B, D] of the true captions.
        negatives: unit vectors [B, N, D], of no meaning where there is no negative.
        negative_mask: bool [B, N], whether there is one.
        logit_scale: the scalar s = exp(model.logit_scale).
        image_tokens: patch tokens [B, P, D], not normalised; None where no loss asks for them.
        text_tokens: word tokens [B, 1 + N, L, D], not normalised, the true caption's first.
        text_token_mask: bool [B, 1 + N, L], true from the first word to the end token.
    """

    images: Tensor
    texts: Tensor
    negatives: Tensor
    negative_mask: Tensor
    logit_scale: Tensor
    image_tokens: Tensor | None = None
    text_tokens: Tensor | None = None
    text_token_mask: Tensor | None = None
