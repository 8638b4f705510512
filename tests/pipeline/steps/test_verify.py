"""verify finds and names broken tables, and repair remakes them byte for byte."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fscdata.base.errors import FsckitError
from fscdata.base.locks import folder_lock
from fscdata.base.progress import Progress, Reporter
from fscdata.contract import CaptionSource, negatives_path, read_table, samples_path, table_path
from fscdata.steps.expected import Settings
from fscdata.steps.negatives import make_negatives
from fscdata.steps.survey import Repair
from fscdata.steps.verify import VerifyReport, repair, verify
from fscdata.tokenizer import ClipTokenizer
from support.captions import ODD, TEMPLATES
from support.tars import sample, write_shards, write_tar

CAPTIONS = [*TEMPLATES[:18], *ODD]
SAMPLES = [(f"{i:06d}", CAPTIONS[i : i + 2]) for i in range(0, len(CAPTIONS), 2)]
SHARDS = [SAMPLES[:8], SAMPLES[8:16], [], SAMPLES[16:]]
PUBLISHED = [["a cat chases a dog", "a dog flees a cat"], []]
SAMPLE, SWAP, REPLACE = "samples/00000", "negatives/negclip/00000", "negatives/replace/00000"
SHUFFLE = "negatives/shuffle-2/00000"  # three variants per caption


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five shards, one of them empty; two styles with one seed and two with another."""
    data = tmp_path_factory.mktemp("made")
    write_shards(data, SHARDS)
    pair = sample("p", ["a dog chases a cat", "two pets"], published_negatives=PUBLISHED)
    write_tar(data / "shards" / "00004.tar", pair)
    for settings in (
        Settings("negclip,shuffle-2", variants=3),
        Settings("replace,svlc", variants=2, seed=7),
        Settings("imported", variants=5),
    ):
        assert make_negatives(data, settings).failed == {}
    return data


@pytest.fixture(scope="module")
def one_tokenizer() -> Iterator[None]:
    """Share one tokenizer: reading its merges takes longer than verifying these data sets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fscdata.steps.verify.ClipTokenizer", cache(ClipTokenizer))
        yield


@pytest.fixture
def data(made: Path, one_tokenizer: None, tmp_path: Path) -> Path:
    """A copy to break, with the same file times."""
    return shutil.copytree(made, tmp_path / "data")


def table(data: Path, name: str) -> Path:
    return data / f"{name}.parquet"


def state(data: Path) -> dict[str, tuple[bytes, int]]:
    """The bytes and modification time of every table."""
    paths = sorted(data.rglob("*.parquet"))
    return {str(p.relative_to(data)): (p.read_bytes(), p.stat().st_mtime_ns) for p in paths}


def contents(data: Path) -> dict[str, bytes]:
    return {key: value[0] for key, value in state(data).items()}


def of(report: VerifyReport, path: Path) -> list[str]:
    return [finding.problem for finding in report.findings if finding.path == path]


def edit_metadata(path: Path, part: str, **changes: Any) -> None:
    content = pq.read_table(path)
    record = json.loads(content.schema.metadata[b"fsckit"])
    record[part].update(changes)
    metadata = {b"fsckit": json.dumps(record, sort_keys=True).encode()}
    pq.write_table(content.replace_schema_metadata(metadata), path)


def edit_rows(path: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Rewrite a table with changed rows and an updated row count."""
    content = pq.read_table(path)
    rows = content.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, content.schema), path)
    edit_metadata(path, "shard", rows=len(rows))


def set_cell(column: str, value: Any, row: int = 1) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        edit_rows(path, lambda rows: rows[row].__setitem__(column, value))

    return change


def set_edit(**values: Any) -> Callable[[Path], None]:
    return lambda path: edit_rows(path, lambda rows: rows[1]["edits"][0].update(values))


def set_metadata(part: str, **changes: Any) -> Callable[[Path], None]:
    return lambda path: edit_metadata(path, part, **changes)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(column: str) -> Callable[[Path], None]:
    """Flip one bit in the middle of a column's pages."""

    def change(path: Path) -> None:
        group = pq.read_metadata(path).row_group(0)
        chunk = next(
            c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == column
        )
        content = bytearray(path.read_bytes())
        begin = chunk.dictionary_page_offset or chunk.data_page_offset
        content[begin + chunk.total_compressed_size // 2] ^= 1
        path.write_bytes(content)

    return change


def without_a_column(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop_columns(["token_ids"]), path)


def swap_with_next_shard(path: Path) -> None:
    other, aside = path.with_name("00001.parquet"), path.with_name("aside")
    path.rename(aside)
    other.rename(path)
    aside.rename(other)


def exchange(first: int, second: int) -> Callable[[list[dict[str, Any]]], None]:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[first], rows[second] = rows[second], rows[first]

    return change


def copy_text_of_first_variant(rows: list[dict[str, Any]]) -> None:
    for name in ("negative", "edits", "token_ids"):
        rows[1][name] = rows[0][name]


def repeat_caption(rows: list[dict[str, Any]]) -> None:
    rows[1] |= {"negative": SAMPLES[0][1][0], "edits": []}


BREAKS: list[tuple[str, Callable[[Path], object], str]] = [
    (SAMPLE, Path.unlink, "^missing$"),
    (SWAP, Path.unlink, "^missing$"),
    (SWAP, cut, "^not a Parquet file"),
    (SWAP, lambda path: path.write_bytes(b"garbage" * 999), "^not a Parquet file"),
    (SWAP, lambda path: path.write_bytes(b""), "^not a Parquet file"),
    (
        SWAP,
        lambda path: pq.write_table(pa.table({"a": [1]}), path),
        "^not written by fscdata",
    ),
    (SWAP, flip("negative"), "damaged|the edits do not turn"),
    (SAMPLE, flip("caption"), "damaged|caption differs from"),
    (SWAP, set_metadata("provenance", schema_version=99), "^schema version 99"),
    (SWAP, set_metadata("provenance", variants="many"), "^its metadata is unreadable$"),
    (SWAP, set_metadata("shard", without={"a": "b"}), "^its metadata is unreadable$"),
    (SWAP, set_metadata("provenance", surprise=1), "^its metadata is unreadable$"),
    (
        SWAP,
        without_a_column,
        "^its columns do not match schema version 1",
    ),
    (SWAP, set_metadata("shard", rows=3), r"^has \d+ rows, but its metadata says 3$"),
    (SWAP, set_metadata("shard", tar="9.tar"), "^its metadata belongs to 9.tar$"),
    (SWAP, swap_with_next_shard, "^its metadata belongs to 00001.tar$"),
    (SWAP, set_metadata("provenance", style="svlc"), "^its metadata belongs to table svlc$"),
    (
        SAMPLE,
        set_metadata("provenance", table="negatives", style="x"),
        "table x$|unreadable",
    ),
    (SWAP, set_metadata("provenance", seed=5), "^made with seed 5, but other shards with 0$"),
    (SAMPLE, set_metadata("provenance", tokenizer=None), "^made with tokenizer None, but other"),
    (SWAP, set_metadata("shard", tar_size=5), "^the tar has changed$"),
    (SWAP, set_metadata("shard", tar_digest="00"), "^the tar has changed$"),
    (SWAP, set_metadata("shard", captions_digest="00"), "^the captions have changed$"),
    (SAMPLE, set_cell("key", "a.b"), "^key differs from the tar: 1 of 16 rows, first key '0000"),
    (SAMPLE, set_cell("caption_index", 4), "^caption_index differs from the tar"),
    (SAMPLE, set_cell("caption", "Something else"), "^caption differs from the tar"),
    (SAMPLE, set_cell("caption_hash", 4), "^caption_hash differs from the tar"),
    (SAMPLE, set_cell("image_ext", "png"), "^image_ext differs from the tar"),
    (SAMPLE, set_cell("image_offset", 4), "^image_offset differs from the tar"),
    (SAMPLE, set_cell("image_size", 4), "^image_size differs from the tar"),
    (SAMPLE, set_cell("token_ids", [49406, 49407]), "^token_ids differs from the tokenizer: 1 of"),
    (SAMPLE, lambda path: edit_rows(path, exchange(0, 2)), "^key differs from the tar: 2 of 16"),
    (SAMPLE, lambda path: edit_rows(path, list.pop), "^15 rows, but its tar has 16 captions$"),
    (SAMPLE, set_metadata("shard", captions=3), "^the counts in its metadata differ"),
    (
        SAMPLE,
        set_metadata("shard", without={"sample: no caption": 1}),
        "^the counts in its",
    ),
    (SWAP, set_cell("key", "x.y"), r"^its caption is not in the tar: 1 of .*first key 'x\.y'$"),
    (SWAP, set_cell("caption_index", 9), "^its caption is not in the tar: 1 of "),
    (SWAP, set_cell("caption_hash", 1), "^caption_hash does not match the caption: 1 of "),
    (SWAP, lambda path: edit_rows(path, list.reverse), "^not in tar order: "),
    (
        SHUFFLE,
        lambda path: edit_rows(path, exchange(0, 1)),
        "^the caption's variants are not 0, 1, 2",
    ),
    (
        SHUFFLE,
        lambda path: edit_rows(path, lambda rows: rows.pop(0)),
        "^the caption's variants",
    ),
    (REPLACE, set_cell("variant", 2), "^more than 2 variants: 1 of"),
    (SWAP, set_cell("negative", "Something else"), "^the edits do not turn the caption into"),
    (SWAP, set_edit(new="zebra"), "^the edits do not turn the caption into"),
    (SWAP, set_edit(old="zebra"), "^the edits do not turn the caption into"),
    (SWAP, set_edit(start=-3), "^the edits do not turn the caption into"),
    (SWAP, set_edit(end=10_000), "^the edits do not turn the caption into"),
    (SWAP, set_cell("edits", None), "^the edits do not turn the caption into"),
    (
        SHUFFLE,
        lambda path: edit_rows(path, repeat_caption),
        "^the negative equals the caption: 1",
    ),
    (
        SHUFFLE,
        lambda path: edit_rows(path, copy_text_of_first_variant),
        "^the negative repeats another",
    ),
    (SWAP, set_cell("token_ids", [49406, 49407]), "^token_ids differs from the tokenizer: 1 of"),
    (SWAP, set_cell("token_ids", None), "^token_ids differs from the tokenizer: 1 of"),
    (SWAP, set_cell("operator", "replace:object"), "^the operator does not start with 'swap':"),
    (SHUFFLE, set_cell("operator", "shuffle:3"), "^the operator does not start with 'shuffle:2'"),
    (SWAP, set_metadata("shard", without={"made up": 99}), r"^\d+ captions with .* and 99 without"),
    (SWAP, set_metadata("shard", captions=99), r"but its tar has 16$"),
]


def test_a_valid_data_set_has_no_findings(made: Path) -> None:
    report = verify(made)
    assert report.findings == []
    assert (len(report.survey.tars), report.tables) == (5, 30)


@pytest.mark.parametrize(("name", "harm", "words"), BREAKS, ids=[words for *_, words in BREAKS])
def test_faults_are_found_and_named(
    data: Path, name: str, harm: Callable[[Path], object], words: str
) -> None:
    path = table(data, name)
    harm(path)
    report = verify(data)
    assert {f.path for f in report.findings} - {path.with_name("00001.parquet")} == {path}
    assert any(re.search(words, problem) for problem in of(report, path))
    assert {finding.repair for finding in report.findings} == {Repair.AUTOMATIC}


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        (SWAP, cut),
        (SAMPLE, Path.unlink),
        (SHUFFLE, flip("negative")),
        (REPLACE, set_cell("caption_hash", 1)),
        (REPLACE, set_metadata("provenance", schema_version=99)),
        (SHUFFLE, set_metadata("provenance", seed=5)),
        (SWAP, swap_with_next_shard),
    ],
)
def test_repair_touches_only_broken_tables(
    data: Path, name: str, harm: Callable[[Path], object]
) -> None:
    before = state(data)
    harm(table(data, name))
    report = verify(data)
    broken = {finding.path for finding in report.faults}
    repaired = repair(data, report)
    assert repaired.findings == []
    assert set(repaired.repaired) == broken
    assert contents(data) == {key: value[0] for key, value in before.items()}
    touched = {data / key for key, value in state(data).items() if value != before[key]}
    assert touched == broken


def test_repairs_styles_with_different_settings(data: Path) -> None:
    before = contents(data)
    cut(table(data, SAMPLE))
    table(data, "negatives/shuffle-2/00001").unlink()
    cut(table(data, "negatives/svlc/00003"))
    flip("negative")(table(data, "negatives/imported/00004"))
    report = verify(data)
    assert len({finding.path for finding in report.faults}) == 4
    assert repair(data, report).findings == []
    assert contents(data) == before


def test_repairs_missing_samples_tables(data: Path) -> None:
    before = contents(data)
    shutil.rmtree(data / "samples")
    report = verify(data)
    assert len(report.faults) == 5
    assert repair(data, report).findings == []
    assert contents(data) == before


def test_repairs_tables_of_a_rewritten_tar(data: Path) -> None:
    tar = data / "shards" / "00001.tar"
    write_shards(data, [SHARDS[0], [*SHARDS[1][:-1], ("new", ["a dog near a cat"])]])
    report = verify(data)
    broken = {finding.path for finding in report.faults}
    assert {path.stem for path in broken} == {tar.stem}
    assert {finding.problem for finding in report.faults} == {"the tar has changed"}
    assert repair(data, report).findings == []
    assert "new" in read_table(samples_path(data, "00001"))["key"].to_pylist()


@pytest.mark.parametrize("damage", [lambda b: b[:3000], lambda b: b"\1" * 4000, lambda _: b""])
def test_a_damaged_tar_is_named_and_its_tables_kept(
    data: Path, damage: Callable[[bytes], bytes]
) -> None:
    tar = data / "shards" / "00001.tar"
    tar.write_bytes(damage(tar.read_bytes()))
    before = contents(data)
    cut(table(data, SWAP))
    report = verify(data)
    [finding] = [finding for finding in report.faults if finding.path == tar]
    assert finding.repair is Repair.MANUAL
    assert "the tar is damaged" in finding.problem
    assert {f.path for f in report.faults} == {tar, table(data, SWAP)}
    repaired = repair(data, report)
    assert repaired.findings == [finding]
    assert repaired.repaired == [table(data, SWAP)]
    assert contents(data) == before


def test_an_unrepairable_table_is_named_and_kept(data: Path) -> None:
    (data / "shards" / "00001.tar").write_bytes(b"")
    harmed = [negatives_path(data, "negclip", shard) for shard in ("00000", "00001")]
    for path in harmed:
        cut(path)
    report = verify(data)
    assert {f.path: f.repair for f in report.faults if f.path in harmed} == {
        harmed[0]: Repair.AUTOMATIC,
        harmed[1]: Repair.MANUAL,
    }
    before = state(data)
    with pytest.raises(FsckitError, match=r"negclip/00001\.parquet: not a Parquet file"):
        repair(data, report)
    assert state(data) == before
    harmed[1].unlink()
    assert repair(data, verify(data)).repaired == [harmed[0]]


def test_tables_without_a_tar_are_not_deleted(data: Path) -> None:
    (data / "shards" / "00004.tar").unlink()
    report = verify(data)
    orphans = {table_path(data, name, "00004") for name in report.survey.shards}
    assert {f.path for f in report.faults} == orphans
    assert all(
        "has no tar (tables without a tar in its folder: 1)" in f.problem for f in report.faults
    )
    assert {finding.repair for finding in report.faults} == {Repair.MANUAL}
    assert repair(data, report) is report
    table(data, SWAP).unlink()
    before = state(data)
    with pytest.raises(FsckitError, match=r"has no tar in .*\(tables without a tar: 6\)"):
        repair(data, verify(data))
    assert state(data) == before


def test_a_key_in_two_tars_is_named(tmp_path: Path) -> None:
    shards = [[("a", ["a dog near a cat"])], [("b", ["a man in a hat"]), ("c", ["two red cars"])]]
    tars = write_shards(tmp_path, shards)
    make_negatives(tmp_path, Settings("negclip"))
    write_shards(tmp_path, [[("c", ["a dog near a cat"])]])
    report = verify(tmp_path)
    [finding] = [finding for finding in report.faults if finding.path == tars[1]]
    assert finding.problem.startswith(
        "1 of its keys occur in another tar, such as 'c' in 00000.tar"
    )
    assert finding.repair is Repair.MANUAL
    repaired = repair(tmp_path, report)
    assert finding in repaired.faults
    assert samples_path(tmp_path, "00000") in repaired.repaired


def test_files_left_by_a_killed_run_are_removed(data: Path) -> None:
    left = data / "negatives" / "negclip" / ".00001.parquet.tmp"
    left.write_bytes(b"half")
    report = verify(data)
    assert [(f.path, f.repair) for f in report.findings] == [(left, Repair.HARMLESS)]
    assert report.faults == []
    assert repair(data, report).findings == []
    assert not left.exists()


def test_a_style_from_another_spacy_version_is_not_repaired(data: Path) -> None:
    for path in (data / "negatives" / "replace").glob("*.parquet"):
        edit_metadata(path, "provenance", spacy_version="3.7.0", lexicon_digest="00")
    report = verify(data)
    [note] = report.findings
    assert (note.path, note.repair) == (data / "negatives" / "replace", Repair.HARMLESS)
    assert "made with spacy_version '3.7.0', here '3.8." in note.problem
    assert "lexicon_digest '00', here" in note.problem
    assert "--recipe replace --variants 2 --seed 7 --overwrite'" in note.problem

    table(data, REPLACE).unlink()
    table(data, SWAP).unlink()
    before = state(data)
    report = verify(data)
    assert [f.path for f in report.faults if f.repair is Repair.MANUAL] == [table(data, REPLACE)]
    repaired = repair(data, report)
    assert repaired.repaired == [table(data, SWAP)]
    assert [finding.path for finding in repaired.faults] == [table(data, REPLACE)]
    assert before.items() <= state(data).items()


def test_an_unknown_style_is_reported(data: Path) -> None:
    (data / "negatives" / "svlc").rename(data / "negatives" / "magic")
    for path in (data / "negatives" / "magic").glob("*.parquet"):
        edit_metadata(path, "provenance", style="magic")
    report = verify(data)
    notes = [f.problem for f in report.findings if f.repair is Repair.HARMLESS]
    [note] = notes
    assert note.startswith("this fsckit cannot remake its tables: unknown style 'magic'")


def test_a_tie_between_settings_is_not_repaired(tmp_path: Path) -> None:
    write_shards(tmp_path, SHARDS[:2])
    make_negatives(tmp_path, Settings("negclip"))
    edit_metadata(negatives_path(tmp_path, "negclip", "00001"), "provenance", seed=4)
    report = verify(tmp_path)
    assert {finding.repair for finding in report.faults} == {Repair.MANUAL}
    assert any("settings differ, with no majority" in f.problem for f in report.faults)
    assert repair(tmp_path, report) is report


def test_a_style_with_other_tokens_is_not_repaired(data: Path) -> None:
    for path in (data / "negatives" / "svlc").glob("*.parquet"):
        edit_metadata(path, "provenance", tokenizer=None)
    table(data, SWAP).unlink()
    report = verify(data)
    assert {f.path for f in report.faults} == {data / "negatives" / "svlc", table(data, SWAP)}
    assert {finding.repair for finding in report.faults} == {Repair.MANUAL}


def test_an_unreadable_style_is_not_repaired(data: Path) -> None:
    paths = sorted((data / "negatives" / "negclip").glob("*.parquet"))
    for path in paths:
        cut(path)
    report = verify(data)
    assert {f.path for f in report.faults} == {data / "negatives" / "negclip", *paths}
    assert {finding.repair for finding in report.faults} == {Repair.MANUAL}


def test_captions_from_a_folder(tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "coca"
    folder.mkdir()
    for shard in ("0", "1", "2"):
        write_tar(data / f"{shard}.tar", sample(f"k{shard}", []))
        (folder / f"k{shard}.txt").write_text("two cats on a red mat\n")
    make_negatives(data, Settings("negclip", captions=CaptionSource(folder=folder)))
    for wrong in (None, tmp_path):
        with pytest.raises(FsckitError, match="folder 'coca'; set `captions_dir` to that folder"):
            verify(data, wrong)
    assert verify(data, folder).findings == []
    before = contents(data)
    path = negatives_path(data, "negclip", "1")
    path.unlink()
    assert repair(data, verify(data, folder), folder).repaired == [path]
    assert contents(data) == before
    (folder / "k2.txt").write_text("two dogs on a red mat\n")
    report = verify(data, folder)
    assert {f.problem for f in report.faults} == {"the captions have changed"}
    assert repair(data, report, folder).faults == []


def test_repairs_tables_without_token_ids_and_from_a_json_field(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", sample("7", ["usual"], blip=["a dog near a red car"]))
    source = CaptionSource(json_key="blip")
    make_negatives(tmp_path, Settings("negclip", tokenizer="none", captions=source))
    assert verify(tmp_path).findings == []
    before = contents(tmp_path)
    cut(samples_path(tmp_path, "0"))
    assert repair(tmp_path, verify(tmp_path)).findings == []
    assert contents(tmp_path) == before


def test_nothing_to_verify_is_an_error(tmp_path: Path, data: Path) -> None:
    with pytest.raises(FsckitError, match="no such folder"):
        verify(tmp_path / "nowhere")
    write_shards(tmp_path / "bare", SHARDS[:1])
    with pytest.raises(FsckitError, match="no tables to verify"):
        verify(tmp_path / "bare")
    for path in data.rglob("*.parquet"):
        path.write_bytes(b"garbage")
    with pytest.raises(FsckitError, match="no table is readable"):
        verify(data)


def test_repair_stops_if_the_folder_is_in_use(data: Path) -> None:
    cut(table(data, SWAP))
    report = verify(data)
    before = state(data)
    with folder_lock(data), pytest.raises(FsckitError, match="another process is using it"):
        repair(data, report)
    assert state(data) == before


def test_progress_counts_shards(made: Path, one_tokenizer: None) -> None:
    seen: list[Progress] = []
    verify(made, reporter=Reporter(progress=seen.append))
    assert seen == [Progress("verifying", done, 5, "shards") for done in range(6)]
