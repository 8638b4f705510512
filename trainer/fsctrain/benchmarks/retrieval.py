"""How often the right text or image is among the k nearest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_ROWS_AT_ONCE = 1024  # bounds the memory of the score matrix


def recall_at_k(
    images: Tensor, texts: Tensor, image_of_text: Tensor, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """Recall@k in both directions (Hodosh et al., JAIR 2013; on COCO and Flickr30k as in CLIP).

    An image counts as correct if any of its texts is among the k nearest. A wrong item as near as
    the right one ranks before it, so that constant features score 0.

    Args:
        images: unit features [I, D].
        texts: unit features [T, D], at least one per image.
        image_of_text: int64 [T], the index of each text's image.
        ks: the values of k.

    Returns:
        `image_to_text_recall@k` and `text_to_image_recall@k` for each k, from 0 to 1.
    """
    ranks = {
        "image_to_text": _ranks(images, texts, torch.arange(len(images)), image_of_text),
        "text_to_image": _ranks(texts, images, image_of_text, torch.arange(len(images))),
    }
    return {
        f"{name}_recall@{k}": float((rank < k).double().mean())
        for name, rank in ranks.items()
        for k in ks
    }


def _ranks(queries: Tensor, items: Tensor, query_image: Tensor, item_image: Tensor) -> Tensor:
    """For each query [Q], how many wrong items are at least as near as its nearest right item."""
    ranks = []
    for query, image in zip(
        torch.split(queries, _ROWS_AT_ONCE), torch.split(query_image, _ROWS_AT_ONCE), strict=True
    ):
        scores = query @ items.T  # [q, items]
        own = image[:, None] == item_image[None]  # [q, items]
        best = scores.masked_fill(~own, -torch.inf).amax(1, keepdim=True)
        ranks.append(((scores >= best) & ~own).sum(1))
    return torch.cat(ranks)
