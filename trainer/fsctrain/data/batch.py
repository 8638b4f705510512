"""Batches, made from rows and their images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fsctrain.data.bad_images import BadImage
from fsctrain.data.images import Buffer, Draws, UnreadableImageError
from fsctrain.data.training_data import TrainingData

MAX_REPLACEMENTS = 10  # tries per bad image; guards against reading a broken tar to its end


@dataclass(frozen=True)
class Batch:
    """B rows and their negatives of N styles; texts are padded with 0 to the longest, L >= 2.

    B is smaller than requested if bad images could not be replaced.

    Attributes:
        images: uint8 [B, 3, H, W], channels last in memory.
        tokens: int64 [B, L].
        negative_tokens: int64 [B, N, L], all 0 for a missing negative.
        negative_mask: bool [B, N], true for a negative that differs from its caption.
        keys: the samples' keys.
        image_ids: int64 [B], equal for rows of one image.
        bad: the images that could not be used, each with its reason.
    """

    images: Tensor
    tokens: Tensor
    negative_tokens: Tensor
    negative_mask: Tensor
    keys: list[str]
    image_ids: Tensor
    bad: list[BadImage] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.keys)

    def pin_memory(self) -> Batch:
        """The batch with locked pages, for the copy to a GPU (called by torch's DataLoader)."""
        return self._with(Tensor.pin_memory)

    def _with(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return Batch(
            change(self.images),
            change(self.tokens),
            change(self.negative_tokens),
            change(self.negative_mask),
            self.keys,
            change(self.image_ids),
            self.bad,
        )


@dataclass(frozen=True)
class Row:
    """A candidate for a position in a batch.

    Attributes:
        data: the tables that contain it.
        row: its number in `data`.
        repeat: the number of earlier passes over its data set; selects its negatives.
        read: returns the bytes of its image.
    """

    data: TrainingData
    row: int
    repeat: int
    read: Callable[[], Buffer]


def make_batch(
    draws: Draws,
    candidates: Callable[[int], Iterable[Row]],
    crop: Callable[[Buffer, Draws], Tensor],
    image_size: tuple[int, int],
    styles: int,
) -> Batch:
    """Make a batch, replacing bad images.

    Args:
        draws: random numbers for the crop at each position; their number is the batch's size.
        candidates: returns for position i its row, then possible replacements; at most ten of
            these are tried.
        crop: makes uint8 [3, H, W] from an image's bytes and a position's random numbers, or
            raises UnreadableImageError.
        image_size: H and W.
        styles: N.
    """
    # Channels last in memory, like the crops: the copies need no transpose.
    images = torch.empty(len(draws), *image_size, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
    good: list[Row] = []
    bad: list[BadImage] = []
    for i, numbers in enumerate(draws):
        for row in islice(candidates(i), 1 + MAX_REPLACEMENTS):
            try:
                images[len(good)] = crop(row.read(), numbers)
            except UnreadableImageError as error:
                tar = row.data.tars[row.data.tar[row.row]]
                bad.append(BadImage(row.data.key(row.row), tar.name, str(error)))
            else:
                good.append(row)
                break
    keys = [row.data.key(row.row) for row in good]
    ids = torch.tensor([_image_id(row) for row in good], dtype=torch.int64)
    return Batch(images[: len(good)], *_texts(good, styles), keys, ids, bad)


def _image_id(row: Row) -> int:
    """A hash of the image's place; keys alone may repeat in other data sets."""
    place = f"{row.data.tars[row.data.tar[row.row]]}\0{row.data.key(row.row)}"
    return int.from_bytes(blake2b(place.encode(), digest_size=8).digest(), "little", signed=True)


def _texts(rows: list[Row], styles: int) -> tuple[Tensor, Tensor, Tensor]:
    """tokens [B, L], negative_tokens [B, N, L], negative_mask [B, N]."""
    captions = [row.data.caption(row.row) for row in rows]
    negatives = [text for row in rows for text in row.data.negatives_of(row.row, row.repeat)]
    length = max((len(text) for text in [*captions, *negatives]), default=2)
    tokens = _pad(captions, length)
    negative_tokens = _pad(negatives, length).view(len(rows), styles, length)
    # A negative equal to its caption would be a false negative: the context ended before its
    # edit, or it differs only in case.
    mask = (negative_tokens != tokens[:, None]).any(2) & (negative_tokens != 0).any(2)
    return tokens, negative_tokens * mask[..., None], mask


def _pad(texts: list[NDArray[np.int32]], length: int) -> Tensor:
    """int64 [len(texts), length], zero-padded on the right."""
    padded = np.zeros((len(texts), length), np.int64)
    for row, text in zip(padded, texts, strict=True):
        row[: len(text)] = text
    return torch.from_numpy(padded)


def strided(first: int, stride: int, length: int) -> Iterator[int]:
    """first, first + stride, first + 2·stride, … modulo length, until these repeat."""
    position = first
    while True:
        yield position
        position = (position + stride) % length
        if position == first:
            return
