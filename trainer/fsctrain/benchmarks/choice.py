"""Does the image prefer its true caption to a false one?"""

from __future__ import annotations

from torch import Tensor


def choice_accuracy(images: Tensor, true: Tensor, false: Tensor) -> float:
    """The share of (image, true caption, false caption) whose image is nearer to the true one.

    The measure of ARO (Yuksekgonul et al., ICLR 2023) and of SugarCrepe (Hsieh et al., NeurIPS
    2023). Ties count half, so that a model that sees nothing scores 0.5.

    Args:
        images: unit features [M, D], as `fsctrain.model.embed_images` gives them.
        true: unit features [M, D] of the true captions, by `fsctrain.model.embed_texts`.
        false: unit features [M, D] of the false ones.

    Returns:
        Accuracy from 0 to 1.

    Raises:
        ValueError: the shapes differ, or there are no triples.
    """
    if not (images.shape == true.shape == false.shape and len(images)):
        shapes = [tuple(t.shape) for t in (images, true, false)]
        raise ValueError(f"three equal, non-empty [M, D] are wanted, not {shapes}")
    margin = (images * true).sum(1) - (images * false).sum(1)  # [M]
    return float(((margin > 0).double() + (margin == 0).double() / 2).mean())
