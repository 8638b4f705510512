"""How often an image is closer to its true caption than to a false one."""

from __future__ import annotations

from torch import Tensor


def choice_accuracy(images: Tensor, true: Tensor, false: Tensor) -> float:
    """The share of (image, true, false caption) triples with the image closer to the true caption.

    The metric of ARO (Yuksekgonul et al., ICLR 2023) and SugarCrepe (Hsieh et al., NeurIPS 2023).
    Ties count half, so that constant features score 0.5.

    Args:
        images: unit features [M, D], from `fsctrain.model.embed_images`.
        true: unit features [M, D] of the true captions, from `fsctrain.model.embed_texts`.
        false: unit features [M, D] of the false captions.

    Returns:
        Accuracy from 0 to 1.

    Raises:
        ValueError: the shapes differ, or M is 0.
    """
    if not (images.shape == true.shape == false.shape and len(images)):
        shapes = [tuple(t.shape) for t in (images, true, false)]
        raise ValueError(f"expected three non-empty tensors of equal shape [M, D], not {shapes}")
    margin = (images * true).sum(1) - (images * false).sum(1)  # [M]
    return float(((margin > 0).double() + (margin == 0).double() / 2).mean())
