"""Batches: which rows, which negatives, which crop is a function of the seed and the step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fscdata.contract import FsckitError
from fsctrain.data.bad_images import BadImage
from fsctrain.data.images import UnreadableImageError, crop, decode, read_member
from fsctrain.data.tables import TrainingData


@dataclass(frozen=True)
class Batch:
    """B rows and their negatives of N styles; texts are padded with 0 to the longest, L.

    Attributes:
        images: uint8 [B, 3, H, W].
        tokens: int64 [B, L].
        negative_tokens: int64 [B, N, L], all 0 where there is no negative.
        negative_mask: bool [B, N], whether there is one that differs from the caption.
        keys: the samples' keys.
        bad: rows that were left out because of their pictures.
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

    def to(self, device: torch.device) -> Batch:
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def _with(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return Batch(
            change(self.images),
            change(self.tokens),
            change(self.negative_tokens),
            change(self.negative_mask),
            self.keys,
            self.bad,
        )


class Batches(Dataset[Batch | FsckitError]):
    """Batch number `step` of a run that goes through the rows again and again.

    Every epoch has each row once, in an order of its own; its last batch may be smaller.
    """

    def __init__(
        self,
        data: TrainingData,
        batch_size: int,
        image_size: tuple[int, int],
        *,
        crop_scale: tuple[float, float],
        seed: int,
    ) -> None:
        self.data = data
        self.batch_size = batch_size
        self.image_size = image_size
        self.crop_scale = crop_scale
        self.seed = seed
        self.steps_per_epoch = -(-len(data) // batch_size)

    def __getitem__(self, step: int) -> Batch | FsckitError:
        """The batch; an error is given back, since a worker would wrap it in a traceback."""
        epoch, number = divmod(step, self.steps_per_epoch)
        order = _order(len(self.data), self.seed, epoch)
        rows = order[number * self.batch_size : (number + 1) * self.batch_size]
        images, good, bad = [], [], []
        for row in rows:
            try:
                images.append(self._image(int(row), epoch))
                good.append(int(row))
            except UnreadableImageError as error:
                tar = self.data.tars[self.data.tar[row]].name
                bad.append(BadImage(self.data.key(row), tar, str(error)))
            except FsckitError as error:
                return error
        stacked = torch.stack(images) if images else torch.zeros(0, 3, *self.image_size).byte()
        return Batch(stacked, *self._texts(good, epoch), [self.data.key(r) for r in good], bad)

    def _image(self, row: int, epoch: int) -> Tensor:
        data = self.data
        place = int(data.image_offset[row]), int(data.image_size[row])
        image = decode(read_member(data.tars[data.tar[row]], data.key(row), *place))
        rng = np.random.default_rng([self.seed, epoch, row])
        return crop(image, self.image_size, self.crop_scale, rng)

    def _texts(self, rows: Sequence[int], epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        """tokens [B, L], negative_tokens [B, N, L], negative_mask [B, N]."""
        data, context = self.data, self.data.context_length
        styles = range(len(data.styles))
        numbers = np.array(
            [[data.negative(style, row, epoch) for style in styles] for row in rows], np.int64
        ).reshape(len(rows), len(styles))
        captions = [data.captions.cut(row, context) for row in rows]
        negatives = [
            data.negatives.cut(n, context) if n >= 0 else np.zeros(0, np.int32)
            for n in numbers.ravel().tolist()
        ]
        length = max((len(text) for text in [*captions, *negatives]), default=0)
        tokens = _pad(captions, length)
        negative_tokens = _pad(negatives, length).view(*numbers.shape, length)
        # A negative whose tokens are the caption's is none: one cut before its edit, or one that
        # differs in case alone.
        differs = (negative_tokens != tokens[:, None]).any(2)
        mask = torch.from_numpy(numbers >= 0) & differs
        return tokens, negative_tokens * mask[..., None], mask


def load_batches(
    batches: Batches, steps: int, *, workers: int, pin_memory: bool
) -> Iterator[Batch]:
    """Batches 0 … steps − 1 in order, made by `workers` processes (0: by this one).

    Raises:
        FsckitError: a tar changed since its tables were made.
    """
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(steps),
        num_workers=workers,
        pin_memory=pin_memory,
    )
    for batch in loader:
        if isinstance(batch, FsckitError):
            raise batch
        yield batch


@lru_cache(maxsize=1)
def _order(rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(rows)


def _pad(texts: list[NDArray[np.int32]], length: int) -> Tensor:
    """int64 [len(texts), length], zeros at the right."""
    padded = np.zeros((len(texts), length), np.int64)
    for row, text in zip(padded, texts, strict=True):
        row[: len(text)] = text
    return torch.from_numpy(padded)
