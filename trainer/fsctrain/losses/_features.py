"""The input of a loss."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Features:
    """The model's output for one rank's rows: B images and captions, up to N negatives per row.

    Attributes:
        images: unit vectors [B, D].
        texts: unit vectors [B, D] of the captions.
        negatives: unit vectors [B, N, D]; undefined where `negative_mask` is false.
        negative_mask: bool [B, N], true where the row has a negative.
        logit_scale: the scalar s = exp(model.logit_scale).
        image_tokens: patch tokens [B, P, D], not normalized; None if no loss needs them.
        text_tokens: word tokens [B, 1 + N, L, D], not normalized, the caption's first.
        text_token_mask: bool [B, 1 + N, L], true from the first word to the end token.
        image_ids: int64 [B], equal for rows of one image; None if all images differ.
    """

    images: Tensor
    texts: Tensor
    negatives: Tensor
    negative_mask: Tensor
    logit_scale: Tensor
    image_tokens: Tensor | None = None
    text_tokens: Tensor | None = None
    text_token_mask: Tensor | None = None
    image_ids: Tensor | None = None


@dataclass(frozen=True)
class GlobalBatch:
    """The batch of all ranks, G rows, for losses that contrast an image with all other rows.

    Attributes:
        images, texts: unit vectors [G, D].
        negatives: unit vectors [G, N, D], valid where `negative_mask`, bool [G, N], is true.
        rows: the rows of the batch whose loss this rank computes.
        share: 1, or 1 / ranks if every rank computes the loss of all rows.
        rows_with_negatives: scalar, the number of rows of the batch with a negative.
        image_ids: int64 [G], equal for rows of one image; None if all images differ.
    """

    images: Tensor
    texts: Tensor
    negatives: Tensor
    negative_mask: Tensor
    rows: slice
    share: float
    rows_with_negatives: Tensor
    image_ids: Tensor | None = None

    @classmethod
    def single_rank(cls, features: Features) -> GlobalBatch:
        """The global batch of a run with a single rank."""
        return cls(
            images=features.images,
            texts=features.texts,
            negatives=features.negatives,
            negative_mask=features.negative_mask,
            rows=slice(0, len(features.images)),
            share=1.0,
            rows_with_negatives=features.negative_mask.any(1).sum(),
            image_ids=features.image_ids,
        )
