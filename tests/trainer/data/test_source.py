"""The data source of the training loop, opened from a run's settings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fscdata.base.errors import FsckitError
from fsctrain.config import Config
from fsctrain.data import Batch, Coverage, open_source
from fsctrain.model import create_model


def opened(config: Config, rank: int = 0, ranks: int = 1):
    return open_source(config, create_model(config.model, "none"), (32, 32), rank, ranks)


def keys(batches: list[Batch]) -> list[list[str]]:
    return [batch.keys for batch in batches]


@pytest.mark.parametrize("stream", [False, True])
def test_an_epoch_has_every_caption_once(config: Config, samples, stream: bool) -> None:
    config = config.model_copy(update={"batch_size": 5, "stream": stream})
    source = opened(config)
    assert source.captions == 12 and source.steps_per_epoch == 3
    unusable = None if stream else 0.0
    assert source.coverage() == [
        Coverage("colour", 8 / 12, 3, unusable),
        Coverage("shape", 11 / 12, 3, unusable),
    ]
    batches = list(source.batches(0, 6))
    for epoch in (batches[:3], batches[3:]):
        assert [len(batch) for batch in epoch] == [5, 5, 2]
        seen = [key for batch in epoch for key in batch.keys]
        assert sorted(seen) == sorted(sample.key for sample in samples)
    assert keys(batches[:3]) != keys(batches[3:])
    assert keys(list(opened(config).batches(4, 6))) == keys(batches[4:])
    halves = [list(opened(config, rank, 2).batches(0, 3)) for rank in (0, 1)]
    assert [len(batch) for batch in halves[0]] == [2, 2, 1]
    assert [len(batch) for batch in halves[1]] == [3, 3, 1]


@pytest.mark.parametrize("stream", [False, True])
def test_truncates_to_the_context_length(config: Config, stream: bool) -> None:
    """Start, two words, end; a length beyond the model's own is refused."""
    settings = {"context_length": 4, "stream": stream, "styles": ()}
    (batch,) = opened(config.model_copy(update=settings)).batches(0, 1)
    assert batch.tokens.shape[1] == 4 and set(batch.tokens[:, 3].tolist()) == {49407}
    with pytest.raises(FsckitError, match=r"`context_length` 17 is more than the 16 positions of"):
        opened(config.model_copy(update={"context_length": 17, "stream": stream}))


@pytest.mark.parametrize("stream", [False, True])
def test_refuses_invalid_data_sets_and_weights(config: Config, data: Path, stream: bool) -> None:
    def refused(sentence: str, **settings) -> None:
        with pytest.raises(FsckitError, match=sentence):
            opened(config.model_copy(update=settings | {"stream": stream}))

    one = str(data)
    refused(r"`data_weights` has 2 numbers for 1 data sets; set one each", data_weights=(1, 2))
    refused(rf"`data` lists {data} twice; list it once", data=(one, f"{one}/../data"))
    refused(r"`data_weights` 0\.01 selects none of the 12 captions", data_weights=(0.01,))
    refused(r"no negatives of style 'svlc' \(found: colour, shape\)", styles=("svlc",))
    refused(r"nothing: no such folder", data=(one, f"{one}/nothing"))


@pytest.mark.parametrize("transform", ["uint8", "pil"])
def test_transforms_crop_at_the_same_place(config: Config, transform: str) -> None:
    """The images differ only by the decoder and the resize."""
    plain, other = (
        next(opened(config.model_copy(update={"transform": name})).batches(0, 1)).images
        for name in ("uint8", transform)
    )
    difference = (plain.int() - other.int()).abs()
    assert difference.float().mean() < 2
    assert bool(difference.any()) == (transform == "pil")
    assert other.dtype == torch.uint8
