"""Training data: the join of captions and negatives, and token ids."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fscdata.base.errors import FsckitError
from fscdata.contract import negatives_path, samples_path
from fsctrain.data import TrainingData, read_data
from fsctrain.model import Clip, create_model


@pytest.fixture
def clip(tiny_model: str) -> Clip:
    return create_model(tiny_model, "none")


TOKENIZER = open_clip.SimpleTokenizer(context_length=16)


def read(data: Path, styles: tuple[str, ...], clip: Clip, **options) -> TrainingData:
    return read_data([str(data)], [], styles, clip, **options)


def words(ids: np.ndarray) -> str:
    text = TOKENIZER.decode(ids.tolist())
    return text.removeprefix("<start_of_text>").removesuffix("<end_of_text>").strip()


def captions_with_negatives(data: TrainingData) -> dict[str, float]:
    return {found.style: found.captions for found in data.coverage()}


@pytest.mark.parametrize("tokenizer", ["clip-bpe", None])
def test_every_epoch_shows_a_different_variant(
    tokenizer, make_data, samples, make_sample, clip, caplog, monkeypatch
) -> None:
    """Epoch e shows variant e mod K of a caption's K, with and without stored tokens."""
    two = ["a second one", "a third"]
    samples.append(
        make_sample(
            "ab", samples[0].image, two, {"colour": [[], ["one"]], "shape": [["x", "y"], []]}
        )
    )
    log = logging.getLogger("fsctrain")
    monkeypatch.setattr(log, "handlers", [caplog.handler])
    with caplog.at_level(logging.INFO, "fsctrain"):
        data = read(make_data(samples, tokenizer=tokenizer), ("shape", "colour"), clip)
    assert caplog.messages[0].startswith("checking 3 tars of ")
    assert ("tokenizing the captions" in caplog.text) == (tokenizer is None)
    assert len(data) == 14 and len(data.tars) == 3
    expected = [(s, i) for s in samples for i in range(len(s.captions))]
    for row, (sample, i) in enumerate(expected):
        assert data.key(row) == sample.key
        assert words(data.caption(row)) == sample.captions[i]
        assert Path(data.tars[data.tar[row]]).stem == f"{samples.index(sample) // 5:05}"
        for epoch in range(5):
            for style, found in zip(data.styles, data.negatives_of(row, epoch), strict=True):
                variants = sample.negatives[style][i]
                assert words(found) == (variants[epoch % len(variants)] if variants else "")
    assert captions_with_negatives(data) == {"shape": 12 / 14, "colour": 9 / 14}


def test_truncates_texts_longer_than_the_context(
    make_data, samples, make_sample, clip: Clip
) -> None:
    """Truncated as by open_clip's tokenizer: the end token stays last."""
    long = "a very long caption " * 100
    samples.append(
        make_sample("long", samples[0].image, [long], {"colour": [[]], "shape": [[long]]})
    )
    data = read(make_data(samples), ("shape",), clip)
    expected = TOKENIZER(long)[0].tolist()
    assert data.caption(12).tolist() == expected
    assert data.negatives_of(12, 0)[0].tolist() == expected


def test_coverage_counts_what_training_can_use(make_data, samples, clip: Clip) -> None:
    """A negative that equals its caption within the context is no use; the mask of a batch is the
    reference."""
    words = "a small red fox jumps over a very lazy brown dog near an old stone wall"
    samples = samples[:3]
    for i, sample in enumerate(samples):
        sample.captions = [words]
        other_end, other_start = f"{words} today", words.replace("small", "large")
        sample.negatives = {
            "late": [[other_end] * (i + 1)],
            "case": [[words.upper(), other_start][: i + 1]],
            "none": [[]],
        }
    data = read(make_data(samples), ("case", "late", "none"), clip)
    case, late, none = data.coverage()
    assert (case.captions, case.unusable) == (2 / 3, 3 / 5)
    assert (late.captions, late.unusable) == (0.0, 1.0)
    assert (none.captions, none.unusable) == (0.0, 0.0)
    assert [found.variants for found in (case, late, none)] == [3, 3, 3]
    for row in range(3):
        for repeat in range(2):
            negatives = data.negatives_of(row, repeat)
            differs = [n.tolist() not in ([], data.caption(row).tolist()) for n in negatives]
            assert differs == [row > 0 and repeat == 1, False, False]


def test_reads_no_negatives_without_styles(data: Path, clip: Clip) -> None:
    found = read(data, (), clip)
    assert found.variants == [] and len(found.negatives) == 0 and len(found) == 12


def test_accepts_a_style_without_a_single_negative(make_data, samples, clip: Clip) -> None:
    for sample in samples:
        sample.negatives["colour"] = [[]]
    data = read(make_data(samples), ("colour",), clip)
    assert not len(data.negatives_of(3, 1)[0]) and captions_with_negatives(data) == {"colour": 0.0}


def test_refuses_a_missing_style(data: Path, clip: Clip) -> None:
    with pytest.raises(FsckitError, match=r"no negatives of style 'svlc' \(found: colour, shape\)"):
        read(data, ("svlc",), clip)


def test_refuses_a_vocabulary_that_is_too_small(
    data: Path, tiny_model: str, tmp_path: Path
) -> None:
    config = json.loads(Path(tiny_model).read_text())
    config["text_cfg"]["vocab_size"] = 1000
    path = tmp_path / "small.json"
    path.write_text(json.dumps(config))
    with pytest.raises(FsckitError, match=r"49407 is beyond the vocabulary.*vocab_size"):
        read(data, (), create_model(str(path), "none"))


def test_refuses_a_tar_whose_caption_changed(data, samples, rewrite_tar, clip: Clip) -> None:
    """The tar keeps its size; the caption's hash differs."""
    part = samples[:5]
    part[2].captions = [part[2].captions[0].replace("red", "rad")]
    rewrite_tar(data / "shards" / "00000.tar", part)
    with pytest.raises(
        FsckitError, match=r"00000.parquet: the caption hash of sample '02' does not"
    ):
        read(data, (), clip)


def test_refuses_a_tar_whose_size_changed(data, samples, rewrite_tar, clip: Clip) -> None:
    rewrite_tar(data / "shards" / "00001.tar", samples[5:6])
    with pytest.raises(FsckitError, match=r"00001.parquet: made from 00001.tar with .*has changed"):
        read(data, (), clip)


def test_refuses_negatives_of_another_caption(
    data, samples, rewrite_tables, rewrite_tar, clip: Clip
) -> None:
    part = samples[:5]
    path = negatives_path(data, "shape", "00000")
    old = path.read_bytes()
    part[2].captions = ["another caption"]
    tar = data / "shards" / "00000.tar"
    rewrite_tar(tar, part)
    rewrite_tables(data, tar, part)
    path.write_bytes(old)
    with pytest.raises(
        FsckitError,
        match=r"00000.parquet: made from a different tar or captions than .*--recipe shape",
    ):
        read(data, ("shape",), clip)


def test_refuses_another_schema_version(data: Path, clip: Clip) -> None:
    path = samples_path(data, "00001")
    table = pq.read_table(path)
    record = json.loads(table.schema.metadata[b"fsckit"])
    record["provenance"]["schema_version"] = 99
    pq.write_table(table.replace_schema_metadata({"fsckit": json.dumps(record)}), path)
    with pytest.raises(FsckitError, match=r"00001.parquet: schema version 99"):
        read(data, (), clip)


def test_refuses_missing_token_ids(data: Path, clip: Clip) -> None:
    path = samples_path(data, "00000")
    table = pq.read_table(path)
    metadata, position = table.schema.metadata, table.schema.get_field_index("token_ids")
    empty = table["token_ids"].type
    field = table.schema.field(position)
    table = table.set_column(position, field, pa.nulls(len(table), empty))
    table = table.replace_schema_metadata(metadata)
    pq.write_table(table, path)
    with pytest.raises(
        FsckitError,
        match=rf"without token ids; run 'fscdata make-negatives {data} --recipe colour,shape --ov",
    ):
        read(data, (), clip)


@pytest.mark.parametrize(
    ("offset", "size"), [(-1, 10), (100, 10), (1536, 0), (1536, 10**6), (2**62, 2**62)]
)
def test_refuses_an_image_outside_its_tar(offset: int, size: int, data: Path, clip: Clip) -> None:
    path = samples_path(data, "00001")
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[2] |= {"image_offset": offset, "image_size": size}
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    with pytest.raises(
        FsckitError,
        match=rf"00001.parquet: places the image .*'{rows[2]['key']}' outside its .*{size} bytes",
    ):
        read(data, (), clip)


def test_concatenates_several_data_sets(make_data, samples, clip: Clip, tmp_path: Path) -> None:
    """Rows, negatives and tars of the second follow those of the first."""
    one = make_data(samples[:7]).rename(tmp_path / "one")
    for sample in samples[7:]:
        sample.negatives["colour"] = [["a longer list", "of", "many", "others"]]
    two = make_data(samples[7:], tokenizer=None).rename(tmp_path / "two")
    data = read_data([str(one), str(two)], [1, 0.5], ("colour", "shape"), clip)
    assert data.sizes == (7, 5) and data.weights == (1, 0.5) and len(data) == 12
    for row, sample in enumerate(samples):
        assert data.key(row) == sample.key and words(data.caption(row)) == sample.captions[0]
        offset = int(data.image_offset[row])
        tar = data.tars[data.tar[row]].read_bytes()
        assert tar[offset : offset + int(data.image_size[row])] == sample.image
        for repeat in range(5):
            expected = [v[0][repeat % len(v[0])] if v[0] else "" for v in sample.negatives.values()]
            assert [words(found) for found in data.negatives_of(row, repeat)] == expected
    with_colour = sum(bool(sample.negatives["colour"][0]) for sample in samples)
    assert captions_with_negatives(data) == {"colour": with_colour / 12, "shape": 11 / 12}
    with pytest.raises(FsckitError, match=r"two: no negatives of style 'colour'"):
        shutil.rmtree(two / "negatives" / "colour")
        read_data([str(one), str(two)], [], ("colour", "shape"), clip)
