"""Readers reject files that break the contract, in a sentence that names the file."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fscdata.base.errors import FsckitError
from fscdata.contract import (
    CaptionSource,
    negatives_path,
    open_dataset,
    read_metadata,
    read_table,
    refuse_orphans,
    samples_path,
    styles_present,
)
from fscdata.steps.expected import Settings
from fscdata.steps.negatives import make_negatives
from support.captions import TEMPLATES
from support.tars import write_shards


@pytest.fixture
def data(tmp_path: Path) -> Path:
    shards = [[(f"{s}{i}", [TEMPLATES[4 * s + i]]) for i in range(4)] for s in range(2)]
    write_shards(tmp_path, shards)
    make_negatives(tmp_path, Settings("negclip,shuffle-2", variants=2))
    return tmp_path


def rewrite(path: Path, change) -> None:
    """Rewrite a table with a changed metadata record."""
    table = pq.read_table(path)
    record = json.loads(table.schema.metadata[b"fsckit"])
    change(record)
    metadata = {b"fsckit": json.dumps(record).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path)


def test_round_trip(data: Path) -> None:
    dataset = open_dataset(data, ["negclip", "shuffle-2"])
    assert [t.num_rows for t in dataset.samples] == [4, 4]
    assert dataset.tokenizer == "clip-bpe"
    assert styles_present(data) == ["negclip", "shuffle-2"]
    for style in ("negclip", "shuffle-2"):
        assert sum(t.num_rows for t in dataset.negatives[style]) >= 8
    assert open_dataset(data, []).negatives == {}


def test_a_missing_style_is_named(data: Path) -> None:
    with pytest.raises(FsckitError, match=r"no negatives of style 'svlc' \(found: negclip, shu"):
        open_dataset(data, ["svlc"])


def test_a_missing_shard_is_named(data: Path) -> None:
    negatives_path(data, "negclip", "00001").unlink()
    with pytest.raises(FsckitError, match=r"negclip/00001\.parquet: missing"):
        open_dataset(data, ["negclip"])


@pytest.mark.parametrize("version", [0, 2, "x\x1b[31m", None])
def test_another_schema_version_is_rejected(data: Path, version: object) -> None:
    path = samples_path(data, "00000")
    rewrite(path, lambda r: r["provenance"].update(schema_version=version))
    with pytest.raises(FsckitError, match=r"00000\.parquet: schema version") as error:
        open_dataset(data, [])
    assert "\x1b" not in str(error.value)


def test_mixed_provenance_is_rejected(data: Path) -> None:
    path = negatives_path(data, "negclip", "00001")
    rewrite(path, lambda r: r["provenance"].update(seed=5))
    with pytest.raises(FsckitError, match=r"mixed provenance: its seed is 5, but .*00000.* has 0;"):
        open_dataset(data, ["negclip"])


def test_a_tar_with_another_size_is_rejected(data: Path) -> None:
    with (data / "shards" / "00001.tar").open("ab") as file:
        file.write(b"\0" * 1024)
    with pytest.raises(FsckitError, match=r"00001\.parquet: made from .* the tar has changed"):
        open_dataset(data, ["negclip"])


def test_a_caption_hash_must_match_the_tar(data: Path) -> None:
    tar = data / "shards" / "00000.tar"
    raw = tar.read_bytes()
    word = TEMPLATES[0].split()[-1].encode()
    assert word in raw
    tar.write_bytes(raw.replace(word, word[::-1], 1))
    with pytest.raises(FsckitError, match="the caption hash of sample '00' does not match"):
        open_dataset(data, ["negclip"])


def test_negatives_of_another_caption_are_rejected(data: Path) -> None:
    path = negatives_path(data, "negclip", "00000")
    table = pq.read_table(path)
    hashes = pa.array([h + 1 for h in table["caption_hash"].to_pylist()], pa.uint64())
    pq.write_table(table.set_column(2, table.schema.field(2), hashes), path)
    with pytest.raises(FsckitError, match="were made from a caption that is not in the"):
        open_dataset(data, ["negclip"])


def test_a_key_in_two_tars_is_rejected(tmp_path: Path) -> None:
    write_shards(tmp_path, [[("same", [TEMPLATES[0]])], [("same", [TEMPLATES[1]])]])
    sentence = "the key 'same' occurs in two tars"
    report = make_negatives(tmp_path, Settings("negclip"))
    assert list(report.failed) == ["00001.tar"]
    assert sentence in report.failed["00001.tar"]
    with pytest.raises(FsckitError, match=sentence):
        open_dataset(tmp_path, ["negclip"])


def test_negatives_of_changed_captions_are_rejected(data: Path) -> None:
    """Only one style is remade; the other must not look like captions without negatives."""
    write_shards(data, [[(f"0{i}", [TEMPLATES[i], "A dog near a red cat"]) for i in range(4)]])
    make_negatives(data, Settings("negclip", variants=2))
    assert open_dataset(data, ["negclip"])
    with pytest.raises(FsckitError, match=r"shuffle-2/00000\.parquet: made from a different tar"):
        open_dataset(data, ["negclip", "shuffle-2"])


def test_tables_without_tars_are_rejected(data: Path) -> None:
    (data / "shards" / "00001.tar").unlink()
    message = r"00001\.parquet: has no tar in .*\(tables without a tar: 3\)"
    with pytest.raises(FsckitError, match=message):
        refuse_orphans(data)
    with pytest.raises(FsckitError, match=message):
        make_negatives(data, Settings("negclip", variants=2))


def test_a_caption_folder_may_move(tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "captions"
    folder.mkdir()
    (folder / "7.txt").write_text("two cats on a mat\n")
    write_shards(data, [[("7", ["usual"])]])
    make_negatives(data, Settings("negclip", captions=CaptionSource(folder=folder)))
    (folder / "7.txt").unlink()
    folder.rmdir()
    assert open_dataset(data, ["negclip"]).samples[0]["caption"].to_pylist() == [
        "two cats on a mat"
    ]


def test_foreign_files_are_rejected(data: Path) -> None:
    path = samples_path(data, "00000")
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(FsckitError, match="not written by fscdata; move it elsewhere"):
        read_table(path)
    path.write_bytes(b"PAR1 garbage PAR1")
    with pytest.raises(FsckitError, match="not a Parquet file"):
        read_table(path)
    with pytest.raises(FsckitError, match=r"missing; run 'fscdata verify .* --repair'"):
        read_metadata(path.with_name("nothing.parquet"))


@pytest.mark.parametrize("record", ["[]", "{", '{"provenance": {"schema_version": 1}}', '"x"'])
def test_broken_metadata_is_rejected(data: Path, record: str) -> None:
    path = samples_path(data, "00000")
    table = pq.read_table(path).replace_schema_metadata({b"fsckit": record.encode()})
    pq.write_table(table, path)
    with pytest.raises(FsckitError, match="its metadata is unreadable"):
        read_metadata(path)


def test_wrong_columns_are_rejected(data: Path) -> None:
    path = samples_path(data, "00000")
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["token_ids"]), path)
    with pytest.raises(FsckitError, match="its columns do not match schema version 1"):
        read_table(path)


def test_missing_rows_are_detected(data: Path) -> None:
    path = samples_path(data, "00000")
    pq.write_table(pq.read_table(path).slice(0, 2), path)
    with pytest.raises(FsckitError, match="has 2 rows, but its metadata says 4"):
        read_table(path)
