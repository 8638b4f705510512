"""Batches streamed from whole tars, from disk and from a real S3 server."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from fscdata.base.errors import FsckitError
from fscdata.base.paths import data_path
from fscdata.contract import samples_path
from fsctrain.config import Config
from fsctrain.data import BadImage, Batch, open_source
from fsctrain.data.images import crop_draws, crop_uint8
from fsctrain.model import create_model
from support.s3_server import s3_server


@pytest.fixture
def stream(config: Config):
    def opened(data: Path | str | None = None, rank: int = 0, ranks: int = 1, **settings):
        update = {"stream": True, "batch_size": 5, "styles": ("colour", "shape")} | settings
        if data is not None:
            update["data"] = (str(data),)
        changed = config.model_copy(update=update)
        clip = create_model(changed.model, "none")
        return open_source(changed, clip, (32, 32), rank, ranks)

    return opened


def assert_same(one: Batch, other: Batch) -> None:
    assert one.keys == other.keys and one.bad == other.bad
    for name in ("images", "tokens", "negative_tokens", "negative_mask"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def by_key(batches: list[Batch]) -> dict[str, tuple[list[int], list[list[int]]]]:
    return {
        key: (tokens[tokens > 0].tolist(), [n[n > 0].tolist() for n in negatives])
        for batch in batches
        for key, tokens, negatives in zip(
            batch.keys, batch.tokens, batch.negative_tokens, strict=True
        )
    }


@pytest.mark.parametrize("tokenizer", ["clip-bpe", None])
def test_streams_the_rows_of_indexed_batches(tokenizer, make_data, samples, stream) -> None:
    """Each sample has its own image and caption, and the epoch's negatives."""
    data = make_data(samples, tokenizer=tokenizer)
    settings = {"crop_scale": (1.0, 1.0)}
    ours, indexed = stream(data, **settings), stream(data, stream=False, **settings)
    for first in (0, 3):
        found = list(ours.batches(first, first + 3))
        assert by_key(found) == by_key(list(indexed.batches(first, first + 3)))
        assert len(by_key(found)) == 12
        position = 0
        for batch in found:
            for key, image in zip(batch.keys, batch.images, strict=True):
                (sample,) = [s for s in samples if s.key == key]
                draws = crop_draws(0, first // 3, range(position, position + 1))[0]
                assert torch.equal(image, crop_uint8(sample.image, (32, 32), (1.0, 1.0), draws))
                position += 1


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.slow
def test_streams_every_caption_once_per_epoch(
    ranks: int, workers: int, data, samples, stream
) -> None:
    """Three shards for up to sixteen workers; all ranks take three steps per epoch."""
    parts = [
        list(stream(None, rank, ranks, workers=workers).batches(0, 6)) for rank in range(ranks)
    ]
    for epoch in (0, 3):
        together = [part[step] for step in range(epoch, epoch + 3) for part in parts]
        keys = [key for batch in together for key in batch.keys]
        assert sorted(keys) == sorted(sample.key for sample in samples)
    for step, size in enumerate([5, 5, 2] * 2):
        assert sum(len(part[step]) for part in parts) == size


@pytest.mark.parametrize("workers", [0, 2])
def test_resumes_in_the_middle_of_an_epoch(workers: int, data, stream) -> None:
    """The remaining batches equal those of an undisturbed run."""
    whole = list(stream(workers=workers, batch_size=2).batches(0, 14))
    rest = list(stream(workers=workers, batch_size=2).batches(9, 14))
    for one, other in zip(rest, whole[9:], strict=True):
        assert_same(one, other)


def test_a_resume_does_not_open_tars_it_no_longer_needs(data, samples, stream, monkeypatch) -> None:
    monkeypatch.setattr("fsctrain.data.stream_order.SHUFFLE_BUFFER", 2)
    source = stream(batch_size=1)
    last = next(source.batches(11, 12)).keys
    for number in range(3):
        if not any(s.key in last for s in samples[5 * number : 5 * number + 5]):
            (data / "shards" / f"{number:05}.tar").unlink()
    assert next(source.batches(11, 12)).keys == last


def test_replaces_bad_images_with_later_rows(make_data, samples, stream) -> None:
    """With the row one batch later; bad images in the last rows are dropped."""
    order = [key for b in stream(make_data(samples)).batches(0, 3) for key in b.keys]
    broken = {order[1], order[10]}
    for sample in samples:
        sample.image = b"<html>" if sample.key in broken else sample.image
    found = list(stream(make_data(samples)).batches(0, 3))
    keys = [key for batch in found for key in batch.keys]
    expected = list(order)
    expected[1] = order[6]
    assert keys == expected[:10] + expected[11:]
    assert [[b.key for b in batch.bad] for batch in found] == [[order[1]], [], [order[10]]]
    assert found[0].bad[0].reason == "not an image" and isinstance(found[0].bad[0], BadImage)
    assert [len(batch) for batch in found] == [5, 5, 1]


def test_refuses_a_tar_that_differs_from_its_table(data, samples, rewrite_tar, stream) -> None:
    source = stream()
    part = samples[5:10]
    part[2].key = "zz"
    rewrite_tar(data / "shards" / "00001.tar", part)
    with pytest.raises(
        FsckitError, match=r"00001.tar: the image of sample '\d\d' is missing, but its"
    ):
        list(source.batches(0, 3))
    rewrite_tar(data / "shards" / "00001.tar", part[:2])
    with pytest.raises(FsckitError, match=r"00001.parquet: made from 00001.tar with .* changed"):
        stream()


@pytest.mark.parametrize("workers", [0, 1])
def test_refuses_a_caption_that_changed_in_place(workers: int, data, samples, stream) -> None:
    tar = data / "shards" / "00001.tar"
    old = samples[7].captions[0].encode()
    assert tar.read_bytes().count(old) == 1
    tar.write_bytes(tar.read_bytes().replace(old, old[::-1]))
    with pytest.raises(
        FsckitError, match=rf"00001.tar: the caption hash of sample '{samples[7].key}' does not m"
    ):
        list(stream(workers=workers).batches(0, 3))


@pytest.mark.parametrize("workers", [0, 1])
def test_refuses_a_damaged_tar(workers: int, data, stream) -> None:
    tar = data / "shards" / "00001.tar"
    tar.write_bytes(b"x" * tar.stat().st_size)
    with pytest.raises(
        FsckitError, match=r"00001.tar: the tar is damaged; download or pack it again"
    ) as error:
        list(stream(workers=workers).batches(0, 3))
    assert "\n" not in str(error.value)


def test_refuses_columns_that_violate_the_contract(data, stream) -> None:
    """The error precedes the first step, and names the column and its type."""
    path = samples_path(data, "00001")
    table = pq.read_table(path)
    offsets = table["image_offset"].cast("int32")
    place = table.schema.get_field_index("image_offset")
    for changed, sentence in (
        (table.drop_columns("image_size"), r"expected one column image_size \(int64\), found 0"),
        (table.set_column(place, "image_offset", offsets), r"expected image_offset as int64 wi"),
    ):
        pq.write_table(changed, path)
        for way in (True, False):
            with pytest.raises(FsckitError, match=rf"00001.parquet: its columns .* 1: {sentence}"):
                stream(stream=way)


@pytest.mark.slow
@pytest.mark.parametrize("way", [True, False])
@pytest.mark.parametrize("workers", [0, 2])
def test_reads_from_an_object_store(
    way: bool, workers: int, data: Path, stream, monkeypatch
) -> None:
    """Streamed or by ranges, with forked workers: the batches equal those from disk."""
    local = list(stream(workers=workers, stream=way).batches(0, 3))
    with s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        client = server.client()
        client.create_bucket(Bucket="bucket")
        for path in data.rglob("*.*"):
            client.upload_file(str(path), "bucket", f"data/{path.relative_to(data)}")
        source = stream("s3://bucket/data", workers=workers, stream=way)
        before = server.count("GET", ".tar")
        assert (before == 0) == way  # a stream reads no tar before the first step
        for one, other in zip(source.batches(0, 3), local, strict=True):
            assert_same(one, other)
        if way and workers == 0:
            assert server.count("GET", ".tar") == 3  # some kB each: one request
        client.delete_object(Bucket="bucket", Key="data/shards/00001.tar")
        if way:
            with pytest.raises(FsckitError, match=r"00001.tar: .*"):
                list(source.batches(0, 3))


def test_reads_from_memory(data: Path, stream) -> None:
    target = data_path("memory://stream/data")
    for path in data.rglob("*.*"):
        copy = target / str(path.relative_to(data))
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    keys = [k for batch in stream("memory://stream/data").batches(0, 3) for k in batch.keys]
    assert len(set(keys)) == 12
