"""What a loss is given."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Features:
    """A rank's part of a batch after the model: B images and captions, N negatives at most.

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


@dataclass(frozen=True)
class Whole:
    """The batch of all ranks, G rows, for the losses that tell an image from all other rows.

    Attributes:
        images, texts: unit vectors [G, D].
        negatives: unit vectors [G, N, D]; `negative_mask` bool [G, N] says which there are.
        rows: those rows of the batch for which this rank computes the loss.
        share: 1, or 1 / ranks where every rank computes the loss of all rows.
        rows_with_negatives: how many rows of the batch have a negative, a scalar.
    """

    images: Tensor
    texts: Tensor
    negatives: Tensor
    negative_mask: Tensor
    rows: slice
    share: float
    rows_with_negatives: Tensor


def whole_of_one(features: Features) -> Whole:
    """The batch of a run that has one rank: that rank's part is all of it."""
    return Whole(
        images=features.images,
        texts=features.texts,
        negatives=features.negatives,
        negative_mask=features.negative_mask,
        rows=slice(0, len(features.images)),
        share=1.0,
        rows_with_negatives=features.negative_mask.any(1).sum(),
    )
