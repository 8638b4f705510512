from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from fscdata.base.errors import FsckitError
from fscdata.lexicon import PACKAGED, build_lexicon, load_lexicon, read_lexicon
from fscdata.lexicon.table import METADATA_KEY

BUILD = """
import sys
from pathlib import Path
from fscdata.lexicon import build_lexicon
build_lexicon(*map(Path, sys.argv[1:]))
"""


def test_a_tiny_wordnet_is_compiled(tiny_wordnet: Path, tmp_path: Path) -> None:
    lexicon = read_lexicon(build_lexicon(tiny_wordnet, tmp_path / "out.arrow"))

    dog = lexicon.replacements("dogs", "n")
    assert dict(zip(dog.lemmas, dog.weights, strict=True)) == {"Rose": 1.0, "cat": 7.0, "rose": 3.0}
    assert set(dog.relations) == {"cohyponym"}
    # "animal" has no grandparent, so no cousins.
    assert list(lexicon.replacements("animal", "n").lemmas) == []
    cold = lexicon.replacements("hottest", "a")
    assert [*cold.lemmas, *cold.weights, *cold.relations] == ["cold", 4.0, "antonym"]
    assert lexicon.contains("look_at", "v")
    assert not lexicon.contains("look_at", "n")
    assert lexicon.base_forms("rosae", "n") == ["rose"]
    assert lexicon.base_forms("better", "r") == ["well"]


def test_the_file_records_its_source(tiny_wordnet: Path, tmp_path: Path) -> None:
    out = build_lexicon(tiny_wordnet, tmp_path / "out.arrow")
    metadata = json.loads(pa.ipc.open_file(out.read_bytes()).schema.metadata[METADATA_KEY])
    assert metadata["wordnet_version"] == "3.0"
    assert metadata["format_version"] == 1
    assert metadata["source"].startswith("WordNet database files, BLAKE2b ")
    assert metadata["digest"] == read_lexicon(out).digest


@pytest.mark.slow
def test_same_bytes_on_every_hash_seed(tiny_wordnet: Path, tmp_path: Path) -> None:
    outs = [tmp_path / f"{seed}.arrow" for seed in (1, 2)]
    for seed, out in enumerate(outs):
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        command = [sys.executable, "-c", BUILD, str(tiny_wordnet), str(out)]
        subprocess.run(command, env=environment, check=True)
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_the_digest_changes_with_the_content(tiny_wordnet: Path, tmp_path: Path) -> None:
    before = read_lexicon(build_lexicon(tiny_wordnet, tmp_path / "before.arrow"))
    sense = tiny_wordnet / "index.sense"
    sense.write_text(sense.read_text().replace("00000005 1 7", "00000005 1 8"))
    after = read_lexicon(build_lexicon(tiny_wordnet, tmp_path / "after.arrow"))
    assert before.digest != after.digest


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("data.noun", "00000009 03 n 02 thing 0 000 | one lemma short", r"data\.noun: line 8"),
        ("data.noun", "words without numbers", r"data\.noun: line 8"),
        ("index.adj", "warm a 2 0 2 0 00000001", r"index\.adj: line 5"),
        ("index.adj", "warm a 1 0 1 0 00000009", r"are from different WordNet versions.*'a', 9"),
        ("index.sense", "dog%9:05:00:: 00000004 1 1", r"index\.sense: line 6"),
        (
            "data.adv",
            "00000002 02 r 01 ill 0 001 ! 00000007 r 0101 | x",
            "are from different WordNet versions",
        ),
    ],
)
def test_a_damaged_source_is_rejected(
    tiny_wordnet: Path, tmp_path: Path, name: str, line: str, message: str
) -> None:
    with (tiny_wordnet / name).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(FsckitError, match=message):
        build_lexicon(tiny_wordnet, tmp_path / "out.arrow")
    assert not list(tmp_path.glob("*out.arrow*"))


def test_a_missing_file_is_named(tiny_wordnet: Path, tmp_path: Path) -> None:
    (tiny_wordnet / "verb.exc").unlink()
    with pytest.raises(FsckitError, match=r"verb\.exc: cannot be read .*wordnet-base"):
        build_lexicon(tiny_wordnet, tmp_path / "out.arrow")


def test_a_source_without_version_is_rejected(tiny_wordnet: Path, tmp_path: Path) -> None:
    path = tiny_wordnet / "data.noun"
    path.write_text(path.read_text().replace("WordNet 3.0", "WordNet"))
    with pytest.raises(FsckitError, match=r"data\.noun: WordNet's version"):
        build_lexicon(tiny_wordnet, tmp_path / "out.arrow")


def test_an_unwritable_output_is_named(tiny_wordnet: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FsckitError, match=r"out\.arrow: cannot be written"):
        build_lexicon(tiny_wordnet, tmp_path / "file" / "out.arrow")


def test_a_missing_folder_is_created(tiny_wordnet: Path, tmp_path: Path) -> None:
    assert build_lexicon(tiny_wordnet, tmp_path / "new" / "out.arrow").is_file()


@pytest.mark.slow
def test_the_packaged_file_equals_compiled_wordnet(wordnet_folder: Path, tmp_path: Path) -> None:
    out = build_lexicon(wordnet_folder, tmp_path / "out.arrow")
    # Compare the content: the bytes also depend on the versions of Arrow and zstd.
    assert read_lexicon(out).digest == load_lexicon().digest
    assert PACKAGED.stat().st_size < 6_000_000
