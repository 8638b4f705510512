"""Score a model on a validation data set that it is not trained on."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable
from statistics import mean
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from fscdata.base.errors import FsckitError
from fscdata.base.paths import data_path
from fscdata.base.text import join_counts
from fscdata.contract import open_footers, styles_present
from fsctrain.benchmarks import choice_accuracy, recall_at_k
from fsctrain.config import Config
from fsctrain.data import TrainingData, read_data
from fsctrain.data.images import UnreadableImageError, decode
from fsctrain.data.loader import load
from fsctrain.data.shards import provenance_digest
from fsctrain.data.tars import TarReader
from fsctrain.model import Clip, OpenClip, embed_images, embed_texts

log = logging.getLogger("fsctrain")

BATCH_SIZE = 256  # images
CHOICE = "choice/"
RECALLS = ("image_to_text_recall@1", "text_to_image_recall@1")

# Called with a model in eval mode and the number of steps done; returns scores by name.
Evaluate = Callable[[OpenClip, int], dict[str, float]]


def validation_digest(folder: str) -> str:
    """A digest of a validation data set; only scores with equal digests are comparable.

    Raises:
        FsckitError: as `open_footers`.
    """
    data = data_path(folder)
    footers = open_footers(data, styles_present(data))
    negatives = (table for tables in footers.negatives.values() for table in tables.values())
    return provenance_digest([*footers.samples.values(), *negatives])


class ValidationScorer:
    """Scores a model on the `validation` data set; equal weights always get equal scores.

    For each style of negatives in the data set, `choice/STYLE` is the accuracy of choosing the
    caption over the first variant of its negative. `image_to_text_recall@1` and
    `text_to_image_recall@1` rank the whole set; any of an image's captions counts as correct.
    `score` is the mean of those that the setting `score` names; by default, of all but
    `choice/shuffle-*`. Images are resized and centre-cropped as in open_clip's evaluation
    transform. Unusable images are skipped with their captions, and their number is logged.
    """

    def __init__(self, clip: Clip, config: Config, image_size: tuple[int, int]) -> None:
        """Read the tables.

        Args:
            clip: the model, for its tokenizer and preprocessing.
            config: the settings.
            image_size: H and W.

        Raises:
            FsckitError: as `fsctrain.data.read_data`, or `score` names an unknown score.
        """
        assert config.validation is not None
        self._name = config.validation
        self._workers = config.workers
        styles = tuple(styles_present(data_path(config.validation)))
        self._data = read_data([config.validation], (), styles, clip, config.context_length)
        self._averaged = _averaged(config.score, styles)
        places = np.stack([self._data.tar, self._data.image_offset])  # [2, R]
        _, rows, image = np.unique(places, axis=1, return_index=True, return_inverse=True)
        self._images = _ImageBatches(self._data, rows.tolist(), clip, image_size)
        self._image_of_row = torch.from_numpy(image.reshape(-1))  # [R]

    def __call__(self, model: OpenClip, step: int) -> dict[str, float]:
        """The scores of a model in eval mode, each from 0 to 1; `step` is for the log.

        Raises:
            FsckitError: a tar changed during the run, or no image can be used.
        """
        images, usable = self._embed_images(model, step)  # [I, D], bool
        rows = usable[self._image_of_row].nonzero()[:, 0]  # [T]
        image = (usable.cumsum(0) - 1)[self._image_of_row[rows]]  # [T]
        texts = embed_texts(model, _pad([self._data.caption(row) for row in rows.tolist()]))
        scores: dict[str, float] = {}
        for number, style in enumerate(self._data.styles):
            negatives, index = self._negatives(number, rows.tolist())
            if index:
                false = embed_texts(model, _pad(negatives))
                scores[f"{CHOICE}{style}"] = choice_accuracy(
                    images[image[index]], texts[index], false
                )
        scores |= recall_at_k(images, texts, image, ks=(1,))
        averaged = [scores[name] for name in self._averaged if name in scores]
        if not averaged:
            raise FsckitError(
                f"{self._name}: no caption has a usable negative of the styles in `score`"
            )
        return scores | {"score": mean(averaged)}

    def _embed_images(self, model: OpenClip, step: int) -> tuple[Tensor, Tensor]:
        """Features [I, D] of the usable images, and a mask of usable images."""
        features, usable = [torch.zeros(0)], []
        reasons: Counter[str] = Counter()
        for batch in load(self._images, range(len(self._images)), workers=self._workers):
            good = [image for image in batch if isinstance(image, Tensor)]
            usable += [isinstance(image, Tensor) for image in batch]
            reasons.update(image for image in batch if isinstance(image, str))
            if good:
                features.append(embed_images(model, torch.stack(good)))
        if not any(usable):
            raise FsckitError(f"{self._name}: no image could be used ({join_counts(reasons)})")
        if reasons:
            log.warning("step %s: %s: skipped images: %s", step, self._name, join_counts(reasons))
        return torch.cat(features[1:]), torch.tensor(usable)

    def _negatives(self, style: int, rows: list[int]) -> tuple[list[Any], list[int]]:
        """The first negatives of a style, and the index of each one's row in `rows`."""
        negatives, index = [], []
        for i, row in enumerate(rows):
            text = self._data.negatives_of(row, 0)[style]
            # Skip negatives equal to their caption: the context ended before the edit.
            if len(text) and not np.array_equal(text, self._data.caption(row)):
                negatives.append(text)
                index.append(i)
        return negatives, index


def _averaged(chosen: tuple[str, ...], styles: tuple[str, ...]) -> list[str]:
    """The names of the scores whose mean is `score`.

    By default without shuffled negatives: a model without images can tell 97 % of them from their
    captions by capital letters and full stops in odd places.
    """
    names = [*(f"{CHOICE}{style}" for style in styles), *RECALLS]
    for name in chosen:
        if name not in names:
            raise FsckitError(f"`score`: unknown score '{name}'; choose {', '.join(names)}")
    return list(chosen) or [name for name in names if not name.startswith(f"{CHOICE}shuffle-")]


class _ImageBatches(Dataset[list[Tensor | str] | FsckitError]):
    """Batches of images: each is uint8 [3, H, W], or the reason it cannot be used."""

    def __init__(
        self, data: TrainingData, rows: list[int], clip: Clip, image_size: tuple[int, int]
    ) -> None:
        """`rows` has one row per image."""
        self._data = data
        self._rows = rows
        self._tars = TarReader(data.tars)
        self._transform = open_clip.image_transform(
            image_size,
            is_train=False,
            mean=(0.0, 0.0, 0.0),  # the model's encoder normalizes, on the device
            std=(1.0, 1.0, 1.0),
            resize_mode=clip.preprocess_cfg["resize_mode"],
            interpolation=clip.preprocess_cfg["interpolation"],
        )

    def __len__(self) -> int:
        return math.ceil(len(self._rows) / BATCH_SIZE)

    def __getitem__(self, number: int) -> list[Tensor | str] | FsckitError:
        """A batch; errors are returned, as `load` requires."""
        rows = self._rows[number * BATCH_SIZE : (number + 1) * BATCH_SIZE]
        try:
            return [self._image(row) for row in rows]
        except FsckitError as error:
            return error

    def _image(self, row: int) -> Tensor | str:
        try:
            pixels = decode(self._tars.read(*self._data.image_place(row)))
        except UnreadableImageError as error:
            return str(error)
        image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
        cropped: Tensor = self._transform(image)  # [3, H, W], from 0 to 1
        return (cropped * 255).round().byte()


def _pad(texts: list[Any]) -> Tensor:
    """Token ids as int64 [len(texts), L], zero-padded on the right."""
    return pad_sequence([torch.from_numpy(text).long() for text in texts], batch_first=True)
