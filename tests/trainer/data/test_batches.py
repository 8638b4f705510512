"""Batches: their shapes, their order, and the replacement of bad images."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from fscdata.base.errors import FsckitError
from fsctrain.data import BadImage, BadImages, Batch, Batches, read_data
from fsctrain.model import create_model


@pytest.fixture
def make_batches(tiny_model: str):
    def make(
        data: Path | list[Path],
        styles: tuple[str, ...] = ("colour", "shape"),
        weights: Sequence[float] = (),
        **options,
    ) -> Batches:
        folders = [str(folder) for folder in (data if isinstance(data, list) else [data])]
        clip = create_model(tiny_model, "none")
        settings = {
            "batch_size": 5,
            "image_size": (32, 32),
            "crop_scale": (0.9, 1.0),
            "seed": 0,
        } | options
        return Batches(read_data(folders, weights, styles, clip), **settings)

    return make


def assert_same(one: Batch, other: Batch) -> None:
    assert one.keys == other.keys and one.bad == other.bad
    for name in ("images", "tokens", "negative_tokens", "negative_mask"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_batches_are_padded_to_their_longest_text(data: Path, make_batches) -> None:
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


def test_an_epoch_has_every_row_once_in_a_new_order(data: Path, make_batches) -> None:
    batches = make_batches(data)
    epochs = [[k for s in range(3) for k in batches[3 * e + s].keys] for e in range(3)]
    assert all(sorted(keys) == sorted(epochs[0]) and len(keys) == 12 for keys in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [k for s in range(3) for k in make_batches(data, seed=1)[s].keys] != epochs[0]


def test_one_caption_per_image_and_epoch(make_data, samples, make_batches, tmp_path) -> None:
    """Drawn by seed and epoch; the number of captions of an image does not matter."""
    for i, sample in enumerate(samples):
        sample.captions = [f"caption {c} of image {i}" for c in range(i % 4 + 1)]
        sample.negatives = {"shape": [["other"]] * len(sample.captions)}
    one = make_data(samples[:7]).rename(tmp_path / "one")
    two = make_data(samples[7:]).rename(tmp_path / "two")

    def epochs(**options) -> list[dict[str, tuple[int, ...]]]:
        """For each epoch, the tokens of the caption that each image was seen with."""
        batches = make_batches([one, two], ("shape",), captions_per_image="one", **options)
        assert batches.steps_per_epoch == 3 and batches.captions == sum(
            len(sample.captions) for sample in samples
        )
        seen = []
        for epoch in range(20):
            found = [batches[3 * epoch + step] for step in range(3)]
            pairs = [p for b in found for p in zip(b.keys, b.tokens, strict=True)]
            texts = {key: tuple(tokens[tokens > 0].tolist()) for key, tokens in pairs}
            assert sum(map(len, found)) == len(texts) == 12, "every image once"
            seen.append(texts)
        return seen

    seen = epochs()
    captions = {sample.key: {texts[sample.key] for texts in seen} for sample in samples}
    assert [len(captions[sample.key]) for sample in samples] == [
        len(sample.captions) for sample in samples
    ]
    assert epochs() == seen and epochs(seed=1) != seen


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_workers(workers: int, data: Path, make_batches) -> None:
    batches = make_batches(data)
    expected = list(batches.batches(0, 7))
    found = list(make_batches(data, workers=workers).batches(0, 7))
    assert len(found) == 7
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


def test_the_order_does_not_depend_on_the_batch_size(data: Path, make_batches) -> None:
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


def keys_of(batches: Batches, steps: range) -> list[list[str]]:
    return [batches[step].keys for step in steps]


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("workers", [0, 1, 4])
def test_global_batches_do_not_depend_on_ranks_and_workers(
    ranks, workers, data: Path, make_batches
) -> None:
    """Over three shards and two epochs, in order and content."""
    alone = make_batches(data)
    parts = [
        make_batches(data, rank=rank, ranks=ranks, workers=workers).batches(0, 6)
        for rank in range(ranks)
    ]
    for step, together in enumerate(zip(*parts, strict=True)):
        whole = alone[step]
        assert [key for part in together for key in part.keys] == whole.keys
        assert sum(map(len, together)) == len(whole)
        assert torch.equal(torch.cat([part.images for part in together]), whole.images)
        for name in ("tokens", "negative_tokens", "negative_mask"):
            joined = [getattr(part, name) for part in together]
            width = max(part.shape[-1] for part in joined)
            padded = [F.pad(part, (0, width - part.shape[-1])) for part in joined]
            assert torch.equal(torch.cat(padded), getattr(whole, name)), name


def test_a_rank_may_have_no_rows(data: Path, make_batches) -> None:
    """The epoch's last batch has two rows, for four ranks."""
    batch = make_batches(data, rank=0, ranks=4)[2]
    assert len(batch) == 0 and batch.images.shape == (0, 3, 32, 32)
    assert batch.tokens.shape == (0, 2) and batch.negative_tokens.shape == (0, 2, 2)
    assert batch.negative_mask.shape == (0, 2)


@pytest.mark.parametrize("workers", [0, 2])
def test_resumes_in_the_middle_of_an_epoch(workers: int, data: Path, make_batches) -> None:
    whole = [make_batches(data)[step] for step in range(8)]
    rest = list(make_batches(data, workers=workers).batches(4, 8))
    for one, other in zip(rest, whole[4:], strict=True):
        assert_same(one, other)


def test_joins_two_data_sets(make_data, samples, make_batches, tmp_path: Path) -> None:
    """Each row has its own set's image and texts; weight 2 shows two variants per epoch."""
    two = make_data(samples[6:9]).rename(tmp_path / "two")
    one = make_data(samples[:6])
    apart = {
        key: (image, tokens, negatives)
        for data in (one, two)
        for batch in [make_batches(data, batch_size=9, crop_scale=(1, 1))[0]]
        for key, image, tokens, negatives in zip(
            batch.keys, batch.images, batch.tokens, batch.negative_tokens, strict=True
        )
    }
    batches = make_batches([one, two], weights=[1, 2], batch_size=12)
    assert batches.steps_per_epoch == 1
    batch = batches[0]
    assert sorted(batch.keys) == sorted(
        [s.key for s in samples[:6]] + [s.key for s in samples[6:9]] * 2
    )
    texts = defaultdict(set)
    for key, tokens, negatives in zip(batch.keys, batch.tokens, batch.negative_tokens, strict=True):
        assert torch.equal(tokens, apart[key][1])
        texts[key].add(tuple(negatives[1].tolist()))
    assert all(len(texts[sample.key]) == 2 for sample in samples[6:9])  # variants 0 and 1
    assert all(len(texts[sample.key]) == 1 for sample in samples[:6])


def test_replaces_bad_images(make_data, samples, make_batches) -> None:
    """Position p gets the row at p + B with its own texts, else the row at p + 2B."""
    order = keys_of(make_batches(make_data(samples)), range(3))
    flat = [key for keys in order for key in keys]
    bad = {flat[1]: b"<html>", flat[6]: samples[1].image[: len(samples[1].image) // 2]}
    for sample in samples:
        sample.image = bad.get(sample.key, sample.image)
    data = make_data(samples)
    batches = make_batches(data)
    expected = list(flat)
    expected[1], expected[6] = flat[11], flat[11]
    found = [batches[step] for step in range(3)]
    assert [key for batch in found for key in batch.keys] == expected
    assert [[(b.key, b.reason) for b in batch.bad] for batch in found] == [
        [(flat[1], "not an image"), (flat[6], "damaged image")],
        [(flat[6], "damaged image")],
        [],
    ]
    assert [len(batch) for batch in found] == [5, 5, 2]
    replacement = found[0].keys.index(flat[11])
    own = found[2].keys.index(flat[11])
    length = min(found[0].tokens.shape[1], found[2].tokens.shape[1])
    assert torch.equal(found[0].tokens[replacement, :length], found[2].tokens[own, :length])
    assert torch.equal(
        found[0].negative_tokens[replacement, :, :length], found[2].negative_tokens[own, :, :length]
    )
    halves = [make_batches(data, rank=r, ranks=2)[0].keys for r in (0, 1)]
    assert halves[0] + halves[1] == found[0].keys


def test_a_batch_may_have_only_bad_images(make_data, samples, make_batches) -> None:
    """Ten replacements are tried for each row, and every bad image is reported."""
    for sample in samples:
        sample.image = b"nothing"
    batch = make_batches(make_data(samples))[0]
    assert len(batch) == 0 and batch.images.shape == (0, 3, 32, 32)
    assert len(batch.bad) == 5 * 11
    assert batch.negative_tokens.shape[:2] == batch.negative_mask.shape == (0, 2)


def test_leaves_out_bad_images_without_a_replacement(make_data, samples, make_batches) -> None:
    """The batch is the whole epoch, so no other row can replace one."""
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


@pytest.mark.parametrize("workers", [0, 1])
def test_refuses_a_tar_that_changes_during_the_run(
    workers, data, samples, make_batches, rewrite_tar
) -> None:
    """The samples are in a different order, so the offsets point to other members."""
    batches = make_batches(data, workers=workers)
    rewrite_tar(data / "shards" / "00000.tar", samples[:5][::-1])
    with pytest.raises(
        FsckitError, match=r"00000.tar: sample '\d\d' is no longer at the off"
    ) as error:
        list(batches.batches(0, 3))
    assert "\n" not in str(error.value)


def test_stops_beyond_the_limit_of_bad_images(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    bad = BadImages(path, 0.01)
    few = [BadImage(f"k{i}", "0.tar", "not an image") for i in range(10)]
    for _ in range(3):
        bad.count(few, rows=20)  # many rows, but only ten images
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
