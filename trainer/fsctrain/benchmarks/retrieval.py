"""How often the right text, or the right image, is among the first k."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_ROWS_AT_ONCE = 1024


def recall_at_k(
    images: Tensor, texts: Tensor, image_of_text: Tensor, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """Recall@k in both directions (Hodosh et al., JAIR 2013; on COCO and Flickr30k as in CLIP).

    An image is found right if any of its texts is among the k nearest. A wrong item that is as
    near as the right one counts as nearer: equal features earn nothing.

    Args:
        images: unit features [I, D].
        texts: unit features [T, D], several an image allowed, every image with one at least.
        image_of_text: int64 [T], the number of each text's image.
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
    """For each query [Q] how many foreign items are at least as near as its nearest own one."""
    ranks = []
    for query, image in zip(
        torch.split(queries, _ROWS_AT_ONCE), torch.split(query_image, _ROWS_AT_ONCE), strict=True
    ):
        scores = query @ items.T  # [q, items]
        own = image[:, None] == item_image[None]  # [q, items]
        best = scores.masked_fill(~own, -torch.inf).amax(1, keepdim=True)
        ranks.append(((scores >= best) & ~own).sum(1))
    return torch.cat(ranks)
