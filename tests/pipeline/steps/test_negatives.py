"""make-negatives: its tables follow the contract, and bad input is reported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fscdata.base.errors import FsckitError
from fscdata.base.locks import folder_lock
from fscdata.contract import (
    CaptionSource,
    caption_hash,
    negatives_path,
    negatives_schema,
    read_metadata,
    read_table,
    samples_path,
    samples_schema,
)
from fscdata.negatives.style import Edit, apply_edits
from fscdata.steps.expected import Settings
from fscdata.steps.negatives import make_negatives
from support.captions import ODD, TEMPLATES
from support.tars import img2dataset_sample, sample, write_shards, write_tar

ALL = "fsc-clip,shuffle-1,svlc,imported"
STYLES = ["negclip", "replace", "shuffle-2", "shuffle-1", "svlc", "imported"]
CAPTIONS = [*TEMPLATES[:24], *ODD]


def samples(captions: list[str]) -> list[tuple[str, list[str]]]:
    """Samples with two captions each."""
    pairs = [captions[i : i + 2] for i in range(0, len(captions), 2)]
    return [(f"{i:06d}", pair) for i, pair in enumerate(pairs)]


def tables(data: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(data)): path.read_bytes() for path in sorted(data.rglob("*.parquet"))
    }


def per_caption(data: Path) -> dict[tuple[str, str, int], tuple]:
    """(style, caption, variant) → the negative, from all shards."""
    found = {}
    for path in sorted((data / "negatives").rglob("*.parquet")):
        texts = {
            (r["key"], r["caption_index"]): r["caption"]
            for r in read_table(samples_path(data, path.stem)).to_pylist()
        }
        for row in read_table(path).to_pylist():
            caption = texts[row["key"], row["caption_index"]]
            assert row["caption_hash"] == caption_hash(caption)
            found[path.parent.name, caption, row["variant"]] = (
                row["negative"], row["operator"], str(row["edits"]), str(row["token_ids"]),
            )  # fmt: skip
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("made")
    everything = samples(CAPTIONS)
    write_shards(data, [everything[:10], everything[10:], []])
    report = make_negatives(data, Settings(ALL, variants=3))
    assert report.failed == {}
    assert report.captions == len(CAPTIONS)
    return data


def test_tables_follow_the_contract(made: Path) -> None:
    order = []
    for shard in ("00000", "00001", "00002"):
        path = samples_path(made, shard)
        assert pq.read_schema(path).remove_metadata().equals(samples_schema())
        rows = read_table(path).to_pylist()
        order += [(r["key"], r["caption_index"]) for r in rows]
        tar = (made / "shards" / f"{shard}.tar").read_bytes()
        for row in rows:
            image = tar[row["image_offset"] : row["image_offset"] + row["image_size"]]
            assert image[:2] == b"\xff\xd8"
            assert row["caption_hash"] == caption_hash(row["caption"])
            assert row["token_ids"][0] == 49406
            assert row["token_ids"][-1] == 49407
        for style in STYLES:
            path = negatives_path(made, style, shard)
            assert pq.read_schema(path).remove_metadata().equals(negatives_schema())
            negatives = read_table(path).to_pylist()
            texts = {(r["key"], r["caption_index"]): r["caption"] for r in rows}
            places = [(r["key"], r["caption_index"], r["variant"]) for r in negatives]
            assert places == sorted(places)
            for row in negatives:
                caption = texts[row["key"], row["caption_index"]]
                edits = [Edit(**edit) for edit in row["edits"]]
                assert apply_edits(caption, edits) == row["negative"] != caption
                assert row["operator"].partition(":")[0] == OPERATORS[style]
    assert order == [(key, i) for key, pair in samples(CAPTIONS) for i in range(len(pair))]


OPERATORS = {
    "negclip": "swap",
    "replace": "replace",
    "shuffle-1": "shuffle",
    "shuffle-2": "shuffle",
    "svlc": "svlc",
    "imported": "imported",
}


def test_every_caption_has_a_negative_or_a_reason(made: Path) -> None:
    for style in STYLES:
        for shard in ("00000", "00001", "00002"):
            path = negatives_path(made, style, shard)
            record = read_metadata(path).shard
            rows = read_table(path, ["key", "caption_index"]).to_pylist()
            having = {(row["key"], row["caption_index"]) for row in rows}
            assert len(having) + sum(record.without.values()) == record.captions
    assert read_metadata(path).shard.rows == 0, "the empty shard has empty tables"


def test_metadata_records_the_provenance(made: Path) -> None:
    metadata = read_metadata(negatives_path(made, "replace", "00000"))
    provenance = metadata.provenance
    assert (provenance.style, provenance.seed, provenance.variants) == ("replace", 0, 3)
    assert provenance.tokenizer == "clip-bpe"
    assert provenance.model_digest
    assert provenance.lexicon_digest
    assert metadata.shard.tar == "00000.tar"
    assert metadata.shard.tar_size == (made / "shards" / "00000.tar").stat().st_size
    swaps = read_metadata(negatives_path(made, "negclip", "00000")).provenance
    assert swaps.lexicon_digest is None


def test_a_second_run_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    everything = samples(CAPTIONS)
    write_shards(tmp_path, [everything[:10], everything[10:], []])
    make_negatives(tmp_path, Settings(ALL, variants=3))
    assert tables(tmp_path) == tables(made)


def test_negatives_do_not_depend_on_order_or_shards(made: Path, tmp_path: Path) -> None:
    everything = samples(CAPTIONS[::-1])
    write_shards(tmp_path, [everything[i : i + 4] for i in range(0, len(everything), 4)])
    make_negatives(tmp_path, Settings(ALL, variants=3))
    assert per_caption(tmp_path) == per_caption(made)


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_hash_seed(made: Path, tmp_path: Path) -> None:
    everything = samples(CAPTIONS)
    write_shards(tmp_path, [everything[:10], everything[10:], []])
    command = [sys.executable, "-m", "fscdata", "make-negatives", str(tmp_path)]
    command += ["--recipe", ALL, "--variants", "3"]
    done = subprocess.run(command, check=False, env=os.environ | {"PYTHONHASHSEED": "12345"})
    assert done.returncode == 1, "the style imported has no negative here"
    assert tables(tmp_path) == tables(made)


def test_more_variants_keep_the_first_ones(made: Path, tmp_path: Path) -> None:
    write_shards(tmp_path, [samples(CAPTIONS)])
    make_negatives(tmp_path, Settings(ALL, variants=1))
    assert per_caption(tmp_path).items() <= per_caption(made).items()


def test_another_seed_gives_different_negatives(made: Path, tmp_path: Path) -> None:
    write_shards(tmp_path, [samples(CAPTIONS)])
    make_negatives(tmp_path, Settings("negclip", variants=3, seed=1))
    ours = per_caption(tmp_path)
    theirs = {k: v for k, v in per_caption(made).items() if k[0] == "negclip"}
    assert ours != theirs


def test_reads_img2dataset_shards(tmp_path: Path) -> None:
    members = [m for i in range(4) for m in img2dataset_sample(f"{i:09d}", TEMPLATES[i])]
    write_tar(tmp_path / "00000.tar", members)
    (tmp_path / "00000_stats.json").write_text("{}")
    report = make_negatives(tmp_path, Settings("fsc-clip"))
    assert (report.shards, report.captions) == (1, 4)
    captions = read_table(samples_path(tmp_path, "00000"))["caption"].to_pylist()
    assert captions == TEMPLATES[:4]


def test_captions_from_a_json_field_and_from_a_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_tar(data / "0.tar", sample("7", ["usual caption"], blip=["a dog near a red car"]))
    make_negatives(data, Settings("negclip", captions=CaptionSource(json_key="blip")))
    assert read_table(samples_path(data, "0"))["caption"].to_pylist() == ["a dog near a red car"]

    folder = tmp_path / "coca"
    folder.mkdir()
    (folder / "7.txt").write_text("two cats on a mat\n")
    settings = Settings("negclip", captions=CaptionSource(folder=folder))
    with pytest.raises(FsckitError, match=r"0\.parquet: made with caption_source"):
        make_negatives(data, settings)
    make_negatives(data, settings, overwrite=True)
    assert read_table(samples_path(data, "0"))["caption"].to_pylist() == ["two cats on a mat"]


def test_published_negatives_become_a_style(tmp_path: Path) -> None:
    published = [["a cat chases a dog", "a dog flees a cat"], []]
    members = sample("1", ["a dog chases a cat", "two pets"], published_negatives=published)
    write_tar(tmp_path / "0.tar", members)
    report = make_negatives(tmp_path, Settings("imported", variants=5))
    rows = read_table(negatives_path(tmp_path, "imported", "0")).to_pylist()
    assert {row["negative"] for row in rows} == set(published[0])
    assert report.without == {("imported", "none published"): 1}


def test_a_rerun_makes_only_missing_tables(tmp_path: Path) -> None:
    everything = samples(TEMPLATES[:12])
    write_shards(tmp_path, [everything[:3], everything[3:]])
    settings = Settings("negclip,shuffle-2")
    make_negatives(tmp_path, settings)
    before = tables(tmp_path)
    times = {path: (tmp_path / path).stat().st_mtime_ns for path in before}
    report = make_negatives(tmp_path, settings)
    assert (report.shards, report.skipped) == (0, 2)

    lost = negatives_path(tmp_path, "negclip", "00001")
    lost.unlink()
    (lost.parent / ".00001.parquet.tmp").write_bytes(b"half of it")
    (tmp_path / ".mine.tmp").write_bytes(b"somebody's own")
    report = make_negatives(tmp_path, settings)
    assert (report.shards, report.skipped) == (1, 1)
    assert tables(tmp_path) == before
    assert [path.name for path in tmp_path.rglob("*.tmp")] == [".mine.tmp"]
    changed = {p for p in before if (tmp_path / p).stat().st_mtime_ns != times[p]}
    assert changed == {str(lost.relative_to(tmp_path))}


def test_tables_of_a_changed_tar_are_remade(tmp_path: Path) -> None:
    write_shards(tmp_path, [[("0", ["a dog chases a cat"])], [("1", ["a man in a hat"])]])
    make_negatives(tmp_path, Settings("negclip"))
    write_shards(tmp_path, [[("0", ["a cat chases a dog"])]])
    report = make_negatives(tmp_path, Settings("negclip"))
    assert (report.shards, report.skipped) == (1, 1)
    captions = read_table(samples_path(tmp_path, "00000"))["caption"].to_pylist()
    assert captions == ["a cat chases a dog"]


def test_tables_with_different_settings_are_not_mixed(tmp_path: Path) -> None:
    write_shards(tmp_path, [samples(TEMPLATES[:4])])
    make_negatives(tmp_path, Settings("negclip", seed=0))
    with pytest.raises(FsckitError, match="made with seed 0, not 1; to remake it, add `overwrite`"):
        make_negatives(tmp_path, Settings("negclip", seed=1))
    make_negatives(tmp_path, Settings("negclip", seed=1), overwrite=True)
    assert read_metadata(negatives_path(tmp_path, "negclip", "00000")).provenance.seed == 1


def test_styles_with_other_tokens_are_rejected(tmp_path: Path) -> None:
    write_shards(tmp_path, [samples(TEMPLATES[:4])])
    make_negatives(tmp_path, Settings("negclip"))
    with pytest.raises(FsckitError, match="add negclip to `recipe`, or delete that folder"):
        make_negatives(tmp_path, Settings("svlc", tokenizer="none"), overwrite=True)
    make_negatives(tmp_path, Settings("svlc,negclip", tokenizer="none"), overwrite=True)


@pytest.mark.slow
def test_a_killed_run_resumes(made: Path, tmp_path: Path) -> None:
    everything = samples(CAPTIONS)
    write_shards(tmp_path, [everything[:10], everything[10:], []])
    command = [sys.executable, "-m", "fscdata", "make-negatives", str(tmp_path)]
    command += ["--recipe", ALL, "--variants", "3"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not list(tmp_path.rglob("*.parquet")) and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    finished = tables(tmp_path)
    assert finished.items() <= tables(made).items(), "a file with its final name is complete"
    assert len(finished) < len(tables(made))
    make_negatives(tmp_path, Settings(ALL, variants=3))
    assert tables(tmp_path) == tables(made)
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_damaged_tar_is_named_and_the_others_are_made(tmp_path: Path) -> None:
    everything = samples(TEMPLATES[:12])
    paths = write_shards(tmp_path, [everything[:3], everything[3:]])
    paths[0].write_bytes(paths[0].read_bytes()[:3000])
    report = make_negatives(tmp_path, Settings("negclip"))
    assert list(report.failed) == ["00000.tar"]
    assert "damaged" in report.failed["00000.tar"]
    assert not samples_path(tmp_path, "00000").exists()
    assert samples_path(tmp_path, "00001").exists()


def test_samples_without_captions_are_counted(tmp_path: Path) -> None:
    write_shards(tmp_path, [[("1", []), ("2", ["", "a dog near a cat"])]])
    report = make_negatives(tmp_path, Settings("negclip"))
    assert report.left_out == {"sample: no caption": 1, "caption: empty": 1}
    assert read_metadata(samples_path(tmp_path, "00000")).shard.without == dict(report.left_out)
    row = read_table(samples_path(tmp_path, "00000")).to_pylist()[0]
    assert (row["key"], row["caption_index"]) == ("2", 1)


def test_a_very_long_text_keeps_its_samples_row(tmp_path: Path) -> None:
    write_shards(tmp_path, [[("1", ["a dog and a cat " * 400, "a dog near a cat"])]])
    report = make_negatives(tmp_path, Settings("negclip"))
    assert report.without == {("negclip", "longer than 5000 characters"): 1}
    assert read_table(samples_path(tmp_path, "00000")).num_rows == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings("nonsense"), r"unknown recipe 'nonsense'; .*fsc-clip.*negclip.*replace"),
        (Settings(","), "`recipe` is empty"),
        (Settings("shuffle-9"), "shuffle-1 … shuffle-5"),
        (Settings("negclip", variants=0), "`variants` 0: choose 1 to 127"),
        (Settings("negclip", tokenizer="ViT-B-16-SigLIP"), "`tokenizer` ViT-B-16-SigLIP"),
        (
            Settings("negclip", captions=CaptionSource(folder=Path("nowhere"))),
            "caption folder not found",
        ),
    ],
)
def test_invalid_settings_are_rejected(tmp_path: Path, settings: Settings, message: str) -> None:
    write_shards(tmp_path, [samples(TEMPLATES[:2])])
    with pytest.raises(FsckitError, match=message):
        make_negatives(tmp_path, settings)


def test_an_empty_or_missing_folder_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(FsckitError, match=r"no \.tar files here"):
        make_negatives(tmp_path, Settings("negclip"))
    with pytest.raises(FsckitError, match="no such folder"):
        make_negatives(tmp_path / "nowhere", Settings("negclip"))


def test_a_second_run_on_the_folder_stops(tmp_path: Path) -> None:
    write_shards(tmp_path, [samples(TEMPLATES[:2])])
    command = [sys.executable, "-m", "fscdata", "make-negatives", str(tmp_path)]
    command += ["--recipe", "negclip"]
    with folder_lock(tmp_path):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "another process is using it" in done.stderr
    assert "Traceback" not in done.stderr


def test_ids_are_null_without_a_tokenizer(tmp_path: Path) -> None:
    write_shards(tmp_path, [samples(TEMPLATES[:2])])
    make_negatives(tmp_path, Settings("negclip", tokenizer="none"))
    assert read_table(samples_path(tmp_path, "00000"))["token_ids"].null_count == 2
    assert (
        json.loads(pq.read_schema(samples_path(tmp_path, "00000")).metadata[b"fsckit"])[
            "provenance"
        ]["tokenizer"]
        is None
    )
