"""Batches: their shapes, their order, and what becomes of bad pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fscdata.contract import FsckitError
from fsctrain.data import BadImage, BadImages, Batch, Batches, load_batches, read_data
from fsctrain.model import create_model


@pytest.fixture
def make_batches(tiny_model: str):
    def make(data: Path, styles: tuple[str, ...] = ("colour", "shape"), **options) -> Batches:
        clip = create_model(tiny_model, "none")
        settings = {
            "batch_size": 5,
            "image_size": (32, 32),
            "crop_scale": (0.9, 1.0),
            "seed": 0,
        } | options
        return Batches(read_data(data, styles, clip), **settings)

    return make


def assert_same(one: Batch, other: Batch) -> None:
    assert one.keys == other.keys and one.bad == other.bad
    for name in ("images", "tokens", "negative_tokens", "negative_mask"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_shapes_and_padding(data: Path, make_batches) -> None:
    batches = make_batches(data)
    assert batches.steps_per_epoch == 3
    for step, rows in enumerate([5, 5, 2]):
        batch = batches[step]
        assert batch.images.shape == (rows, 3, 32, 32) and batch.images.dtype == torch.uint8
        length = batch.tokens.shape[1]
        assert batch.negative_tokens.shape == (rows, 2, length)
        assert batch.negative_mask.dtype == torch.bool
        texts = torch.cat([batch.tokens, batch.negative_tokens.flatten(0, 1)])
        assert length == int((texts != 0).sum(1).max()) < 16
        assert torch.equal((batch.negative_tokens != 0).any(2), batch.negative_mask)
        assert (texts[:, 0] == 49406).sum() == rows + batch.negative_mask.sum()
        for i, key in enumerate(batch.keys):
            assert bool(batch.negative_mask[i, 0]) == (key[1] != "0")
            assert bool(batch.negative_mask[i, 1]) == (key != "00")


def test_every_row_once_an_epoch_in_another_order(data: Path, make_batches) -> None:
    batches = make_batches(data)
    epochs = [[k for s in range(3) for k in batches[3 * e + s].keys] for e in range(3)]
    assert all(sorted(keys) == sorted(epochs[0]) and len(keys) == 12 for keys in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [k for s in range(3) for k in make_batches(data, seed=1)[s].keys] != epochs[0]


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers(workers: int, data: Path, make_batches) -> None:
    batches = make_batches(data)
    expected = list(load_batches(batches, 7, workers=0, pin_memory=False))
    found = list(load_batches(batches, 7, workers=workers, pin_memory=False))
    assert len(found) == 7
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


def test_order_does_not_hang_on_the_batch_size(data: Path, make_batches) -> None:
    small = make_batches(data, batch_size=3)
    large = make_batches(data, batch_size=12)
    assert [k for s in range(4) for k in small[s].keys] == large[0].keys
    assert torch.equal(torch.cat([small[s].images for s in range(4)]), large[0].images)


def test_crops_differ_by_epoch_and_seed(make_data, samples, make_batches) -> None:
    data = make_data(samples[:1])
    batches = make_batches(data, crop_scale=(0.3, 0.6))
    first, second = batches[0].images, batches[1].images
    assert not torch.equal(first, second)
    assert not torch.equal(first, make_batches(data, crop_scale=(0.3, 0.6), seed=1)[0].images)
    assert torch.equal(first, make_batches(data, crop_scale=(0.3, 0.6))[0].images)


def test_bad_pictures_leave_their_batch(make_data, samples, make_batches) -> None:
    samples[1].image = samples[1].image[: len(samples[1].image) // 2]
    samples[7].image = b"<html>"
    batches = make_batches(make_data(samples), batch_size=12)
    batch = batches[0]
    assert len(batch) == 10 == len(batch.images) == len(batch.tokens) == len(batch.negative_mask)
    assert sorted(batch.bad, key=lambda b: b.key) == [
        BadImage("01", "00000.tar", "damaged image"),
        BadImage("21", "00001.tar", "not an image"),
    ]
    assert not {"01", "21"} & set(batch.keys)


def test_a_batch_of_bad_pictures_only(make_data, samples, make_batches) -> None:
    for sample in samples:
        sample.image = b"nothing"
    batch = make_batches(make_data(samples))[0]
    assert len(batch) == 0 and batch.images.shape == (0, 3, 32, 32) and len(batch.bad) == 5
    assert batch.negative_tokens.shape[:2] == batch.negative_mask.shape == (0, 2)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_tar_that_changes_during_the_run(workers, data, samples, make_batches, tar_again) -> None:
    """Another order in the same tar: the offsets point to other members."""
    batches = make_batches(data)
    tar_again(data / "shards" / "00000.tar", samples[:5][::-1])
    with pytest.raises(FsckitError, match=r"00000.tar: sample '\d\d' is no longer where") as error:
        list(load_batches(batches, 3, workers=workers, pin_memory=False))
    assert "\n" not in str(error.value)


def test_the_limit_of_bad_pictures(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    bad = BadImages(path)
    few = [BadImage(f"k{i}", "0.tar", "not an image") for i in range(10)]
    for _ in range(3):
        bad.count(few, rows=20)  # many rows, but only ten pictures
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == [
        f"k{i}" for i in range(10)
    ]
    assert bad.summary() == "not an image: 10"
    bad.count([], rows=10_000)
    bad.count([BadImage("k10", "0.tar", "damaged image")], rows=1)  # eleven, but below 1 %
    with pytest.raises(
        FsckitError, match=r"111 of the first 10161 rows .*not an image: 10, damaged"
    ):
        bad.count([BadImage("k10", "0.tar", "damaged image")] * 80, rows=100)
