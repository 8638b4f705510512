"""Scores of a model on a data set that it is not trained on, and when to stop by them."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterator
from statistics import mean
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from fscdata.base.errors import FsckitError
from fscdata.base.paths import data_path
from fscdata.contract import open_footers, styles_present
from fsctrain.benchmarks import choice_accuracy, recall_at_k
from fsctrain.config import Config
from fsctrain.data import TrainingData, read_data
from fsctrain.data.images import UnreadableImageError, decode
from fsctrain.data.loader import leave_signals_to_the_run
from fsctrain.data.shards import digest_of
from fsctrain.data.tars import Tars
from fsctrain.model import Clip, OpenClip, embed_images, embed_texts

log = logging.getLogger("fsctrain")

PICTURES_AT_ONCE = 256


def validation_digest(folder: str) -> str:
    """Of a data set to validate on: scores of another cannot be compared.

    Raises:
        FsckitError: as `open_footers`.
    """
    data = data_path(folder)
    footers = open_footers(data, styles_present(data))
    negatives = (table for tables in footers.negatives.values() for table in tables.values())
    return digest_of([*footers.samples.values(), *negatives])


class Validation:
    """The evaluation of `--validation`: the same scores for the same weights, each time.

    Of every style that the data set has negatives of, `choice/STYLE` is the choice accuracy of
    the captions against the first variant of their negatives. `image_to_text_recall@1` and
    `text_to_image_recall@1` are of the whole set, captions of one picture together. `score` is
    the mean of all of them. Pictures are seen as a whole, resized and cropped in the middle as by
    open_clip's evaluation transform; one that cannot be used is left out, with its captions, and
    counted in the log.
    """

    def __init__(self, clip: Clip, config: Config, image_size: tuple[int, int]) -> None:
        """Read the tables.

        Args:
            clip: the model, whose tokenizer and preprocessing are used.
            config: of which `validation` names the data set.
            image_size: H and W.

        Raises:
            FsckitError: as `fsctrain.data.read_data`.
        """
        assert config.validation is not None
        self._name = config.validation
        self._workers = config.workers
        styles = tuple(styles_present(data_path(config.validation)))
        self._data = read_data([config.validation], (), styles, clip, config.context_length)
        places = np.stack([self._data.tar, self._data.image_offset])  # [2, R]
        _, first, picture = np.unique(places, axis=1, return_index=True, return_inverse=True)
        self._pictures = _Pictures(self._data, first.tolist(), clip, image_size)
        self._picture_of_row = torch.from_numpy(picture.reshape(-1))  # [R]

    def __call__(self, model: OpenClip, step: int) -> dict[str, float]:
        """The scores of a model in eval mode, each from 0 to 1; `step` is for the log.

        Raises:
            FsckitError: a tar changed since the run began, or no picture can be used.
        """
        images, usable = self._images(model, step)  # [I, D], bool [I]
        rows = usable[self._picture_of_row].nonzero()[:, 0]  # [T]
        image = (usable.cumsum(0) - 1)[self._picture_of_row[rows]]  # [T]
        texts = embed_texts(model, _pad([self._data.caption(row) for row in rows.tolist()]))
        scores: dict[str, float] = {}
        for number, style in enumerate(self._data.styles):
            negatives, place = self._negatives(number, rows.tolist())
            if place:
                false = embed_texts(model, _pad(negatives))
                true = images[image[place]], texts[place]
                scores[f"choice/{style}"] = choice_accuracy(*true, false)
        scores |= recall_at_k(images, texts, image, ks=(1,))
        return scores | {"score": mean(scores.values())}

    def _images(self, model: OpenClip, step: int) -> tuple[Tensor, Tensor]:
        """Features of the pictures that can be used, and which of all these are."""
        features, usable = [torch.zeros(0)], []
        reasons: Counter[str] = Counter()
        for batch in self._batches():
            good = [picture for picture in batch if isinstance(picture, Tensor)]
            usable += [isinstance(picture, Tensor) for picture in batch]
            reasons.update(picture for picture in batch if isinstance(picture, str))
            if good:
                features.append(embed_images(model, torch.stack(good)))
        if not any(usable):
            raise FsckitError(f"{self._name}: no picture could be used ({_counts(reasons)})")
        if reasons:
            log.warning("step %s: %s: pictures left out: %s", step, self._name, _counts(reasons))
        return torch.cat(features[1:]), torch.tensor(usable)

    def _batches(self) -> Iterator[list[Tensor | str]]:
        loader = DataLoader(
            self._pictures,
            batch_size=PICTURES_AT_ONCE,
            num_workers=self._workers,
            collate_fn=list,
            worker_init_fn=leave_signals_to_the_run,
            generator=torch.Generator(),  # else it would draw from the generator of the training
            multiprocessing_context="fork" if self._workers and sys.platform == "linux" else None,
        )
        for batch in loader:
            for picture in batch:
                if isinstance(picture, FsckitError):
                    raise picture
            yield batch

    def _negatives(self, style: int, rows: list[int]) -> tuple[list[Any], list[int]]:
        """The first negatives of a style, and at which of the rows each is."""
        found = [(self._data.negatives_of(row, 0)[style], i) for i, row in enumerate(rows)]
        # One whose tokens are the caption's is none: an edit that was cut off.
        real = [
            (text, i)
            for text, i in found
            if len(text) and not np.array_equal(text, self._data.caption(rows[i]))
        ]
        return [text for text, _ in real], [i for _, i in real]


class _Pictures(Dataset[Any]):
    """Pictures by number: uint8 [3, H, W], the reason why one cannot be used, or an error, which
    is given back since a worker would wrap it in a traceback.
    """

    def __init__(
        self, data: TrainingData, rows: list[int], clip: Clip, image_size: tuple[int, int]
    ) -> None:
        """`rows` has one row of each picture."""
        self._data = data
        self._rows = rows
        self._tars = Tars(data.tars)
        self._transform = open_clip.image_transform(
            image_size,
            is_train=False,
            mean=(0.0, 0.0, 0.0),  # the pixels as they are: they are normalised on the device
            std=(1.0, 1.0, 1.0),
            resize_mode=clip.preprocess_cfg["resize_mode"],
            interpolation=clip.preprocess_cfg["interpolation"],
        )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> Tensor | str | FsckitError:
        data, row = self._data, self._rows[number]
        place = int(data.image_offset[row]), int(data.image_size[row])
        try:
            pixels = decode(self._tars.read(int(data.tar[row]), data.key(row), *place))
        except UnreadableImageError as error:
            return str(error)
        except FsckitError as error:
            return error
        whole = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
        cropped: Tensor = self._transform(whole)  # [3, H, W], from 0 to 1
        return (cropped * 255).round().byte()


class EarlyStopping:
    """Whether the score has stopped growing. What it knows can be saved with the run.

    Attributes:
        best: the best score so far; None before the first.
        best_step: the number of steps after which it was.
        since: how many scores have come since then.
    """

    def __init__(self, patience: int | None) -> None:
        """`patience`: how many scores without a better one are one too many; None: any number."""
        self._patience = patience
        self.best: float | None = None
        self.best_step = 0
        self.since = 0

    def add(self, step: int, score: float) -> bool:
        """Take note of a score after `step` steps; returns whether it is the best so far."""
        if self.best is None or score > self.best:
            self.best, self.best_step, self.since = score, step, 0
            return True
        self.since += 1
        return False

    @property
    def stops(self) -> bool:
        """Whether the run is to end."""
        return self._patience is not None and self.since >= self._patience

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step, "since": self.since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.best_step = state["best"], state["best_step"]
        self.since = state["since"]


def _pad(texts: list[Any]) -> Tensor:
    """Token ids as int64 [len(texts), L], zeros at the right."""
    return pad_sequence([torch.from_numpy(text).long() for text in texts], batch_first=True)


def _counts(reasons: Counter[str]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in reasons.most_common())
