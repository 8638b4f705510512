"""A batch, and how rows with their pictures become one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fsctrain.data.bad_images import BadImage
from fsctrain.data.images import Buffer, Draws, UnreadableImageError
from fsctrain.data.tables import TrainingData

TRIES = 10


@dataclass(frozen=True)
class Batch:
    """B rows and their negatives of N styles; texts are padded with 0 to the longest, L >= 2.

    B is less than what was wanted where no replacement of a bad picture was found.

    Attributes:
        images: uint8 [B, 3, H, W], the channels last in memory.
        tokens: int64 [B, L].
        negative_tokens: int64 [B, N, L], all 0 where there is no negative.
        negative_mask: bool [B, N], whether there is one that differs from the caption.
        keys: the samples' keys.
        bad: the pictures that could not be used, each with its reason.
    """

    images: Tensor
    tokens: Tensor
    negative_tokens: Tensor
    negative_mask: Tensor
    keys: list[str]
    bad: list[BadImage] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.keys)

    def pin_memory(self) -> Batch:
        """With pages locked for the copy to a GPU (called by torch's loader)."""
        return self._with(Tensor.pin_memory)

    def _with(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return Batch(
            change(self.images),
            change(self.tokens),
            change(self.negative_tokens),
            change(self.negative_mask),
            self.keys,
            self.bad,
        )


@dataclass(frozen=True)
class Row:
    """Row `row` of `data`, seen for the time number `turn`, which decides on its negatives; `read`
    gives its picture's bytes.
    """

    data: TrainingData
    row: int
    turn: int
    read: Callable[[], Buffer]


def make_batch(
    draws: Draws,
    candidates: Callable[[int], Iterable[Row]],
    crop: Callable[[Buffer, Draws], Tensor],
    image_size: tuple[int, int],
    styles: int,
) -> Batch:
    """A batch, its bad pictures replaced.

    Args:
        draws: numbers for the crop at each place of the batch; as many as rows are wanted.
        candidates: of place i of the batch its row and then those that may stand in for it; of
            these at most ten are tried.
        crop: of a picture's bytes and a place's numbers uint8 [3, H, W], or UnreadableImageError.
        image_size: H and W.
        styles: N.
    """
    # The channels last in memory, as the crops have them: copied as they are.
    images = torch.empty(len(draws), *image_size, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
    good: list[Row] = []
    bad: list[BadImage] = []
    for i, numbers in enumerate(draws):
        for row in islice(candidates(i), 1 + TRIES):
            try:
                images[len(good)] = crop(row.read(), numbers)
            except UnreadableImageError as error:
                tar = row.data.tars[row.data.tar[row.row]]
                bad.append(BadImage(row.data.key(row.row), tar.name, str(error)))
            else:
                good.append(row)
                break
    keys = [row.data.key(row.row) for row in good]
    return Batch(images[: len(good)], *_texts(good, styles), keys, bad)


def _texts(rows: list[Row], styles: int) -> tuple[Tensor, Tensor, Tensor]:
    """tokens [B, L], negative_tokens [B, N, L], negative_mask [B, N]."""
    captions = [row.data.caption(row.row) for row in rows]
    negatives = [text for row in rows for text in row.data.negatives_of(row.row, row.turn)]
    length = max((len(text) for text in [*captions, *negatives]), default=2)
    tokens = _pad(captions, length)
    negative_tokens = _pad(negatives, length).view(len(rows), styles, length)
    # A negative whose tokens are the caption's is none: one cut before its edit, or one that
    # differs in case alone.
    mask = (negative_tokens != tokens[:, None]).any(2) & (negative_tokens != 0).any(2)
    return tokens, negative_tokens * mask[..., None], mask


def _pad(texts: list[NDArray[np.int32]], length: int) -> Tensor:
    """int64 [len(texts), length], zeros at the right."""
    padded = np.zeros((len(texts), length), np.int64)
    for row, text in zip(padded, texts, strict=True):
        row[: len(text)] = text
    return torch.from_numpy(padded)


def in_turn(first: int, stride: int, length: int) -> Iterator[int]:
    """first, first + stride, first + 2·stride, … modulo length, as far as these are new."""
    place = first
    while True:
        yield place
        place = (place + stride) % length
        if place == first:
            return
