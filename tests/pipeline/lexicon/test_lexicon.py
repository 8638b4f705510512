from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fscdata.base.errors import FsckitError
from fscdata.lexicon import PACKAGED, PartOfSpeech, load_lexicon, read_lexicon

SHOW = """
from fscdata.lexicon import load_lexicon
for word, pos in [("dog", "n"), ("red", "a"), ("hot", "a"), ("run", "v"), ("slowly", "r")]:
    found = load_lexicon().replacements(word, pos)
    print(word, *found.lemmas, found.weights.tolist(), *found.relations)
"""


@pytest.mark.parametrize(
    ("word", "pos", "forms"),
    [
        ("geese", "n", ["goose"]),
        ("Men", "n", ["men", "man"]),
        ("axes", "n", ["ax", "axis"]),
        ("glasses", "n", ["glasses", "glass"]),
        ("running", "v", ["run"]),
        ("sat", "v", ["sit"]),
        ("saw", "v", ["saw", "see"]),
        ("better", "a", ["better", "good", "well"]),
        ("reddest", "a", ["red"]),
        ("quickly", "r", ["quickly"]),
        ("look_at", "v", ["look_at"]),
        ("look at", "v", []),
        ("zzyzzx", "n", []),
        ("", "n", []),
        ("s", "v", []),
        ("\0", "n", []),
        ("🐕s", "n", []),
        ("كلب", "n", []),
        ("\ud83d", "n", []),
    ],
)
def test_base_forms(word: str, pos: PartOfSpeech, forms: list[str]) -> None:
    assert load_lexicon().base_forms(word, pos) == forms


def test_contains_depends_on_the_part_of_speech() -> None:
    lexicon = load_lexicon()
    assert lexicon.contains("look_at", "v")
    assert not lexicon.contains("look_at", "n")
    assert not lexicon.contains("Paris", "n")  # lemmas are looked up in lower case
    assert lexicon.contains("paris", "n")
    assert lexicon.contains("red", "a")


def test_a_colour_reaches_other_colours() -> None:
    found = load_lexicon().replacements("red", "a")
    assert {"blue", "green", "yellow", "white", "black", "brown"} <= set(found.lemmas)
    assert not {"reddish", "ruby", "crimson"} & set(found.lemmas)  # synonyms
    assert set(found.relations) == {"cohyponym"}


@pytest.mark.parametrize(
    ("word", "pos", "antonym"),
    [("hot", "a", "cold"), ("cold", "a", "hot"), ("slowly", "r", "quickly"), ("man", "n", "woman")],
)
def test_antonyms(word: str, pos: PartOfSpeech, antonym: str) -> None:
    found = load_lexicon().replacements(word, pos)
    relations = dict(zip(found.lemmas, found.relations, strict=True))
    assert relations[antonym] == "antonym"


def test_an_antonym_that_is_also_a_cousin_is_an_antonym() -> None:
    # "woman" shares the grandparent "person" with "man".
    lexicon = load_lexicon()
    assert "woman" in lexicon.replacements("boy", "n").lemmas
    found = lexicon.replacements("man", "n")
    assert found.relations[list(found.lemmas).index("woman")] == "antonym"
    assert list(found.relations).count("cohyponym") > 1000


def test_an_inflected_word_has_its_lemmas_replacements() -> None:
    lexicon = load_lexicon()
    dogs, dog = (list(lexicon.replacements(word, "n").lemmas) for word in ("dogs", "Dog"))
    assert dogs == dog != []
    assert "saw" not in lexicon.replacements("saw", "v").lemmas
    assert "see" not in lexicon.replacements("saw", "v").lemmas


@pytest.mark.parametrize(
    ("word", "pos", "synonyms"),
    [
        ("dog", "n", {"dog", "domestic_dog", "frump", "hot_dog", "andiron", "chase"}),
        ("street", "n", {"street"}),
        ("big", "a", {"big", "large", "great"}),
        ("run", "v", {"run", "operate", "scat", "go"}),
    ],
)
def test_no_synonym_in_any_sense(word: str, pos: PartOfSpeech, synonyms: set[str]) -> None:
    found = load_lexicon().replacements(word, pos)
    assert found.lemmas
    # "chase" is a synonym of "dog" only as a verb.
    kept = {"chase"} if pos == "n" else set()
    assert synonyms & set(found.lemmas) <= kept


def test_unknown_words_have_no_replacements() -> None:
    for word in ("zzyzzx", "", "...", "\0", "🐕"):
        for pos in ("n", "v", "a", "r"):
            found = load_lexicon().replacements(word, pos)
            assert len(found.lemmas) == len(found.weights) == len(found.relations) == 0


def test_replacements_are_sorted_distinct_and_weighted() -> None:
    found = load_lexicon().replacements("man", "n")
    assert list(found.lemmas) == sorted(set(found.lemmas))
    assert len(found.lemmas) == len(found.weights) == len(found.relations)
    assert found.weights.dtype == np.float64
    assert found.weights.min() == 1
    assert (found.weights == np.round(found.weights)).all()
    with pytest.raises(ValueError, match="read-only"):
        found.weights[0] = 2


@pytest.mark.slow
def test_same_order_on_every_hash_seed() -> None:
    shown = [
        subprocess.run(
            [sys.executable, "-c", SHOW],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert shown[0] == shown[1]
    assert shown[0].count(b"\n") == 5


def test_the_packaged_lexicon_is_wordnet_in_arrays() -> None:
    lexicon = load_lexicon()
    assert lexicon.wordnet_version == "3.0"
    assert len(lexicon.digest) == 32
    batch = pa.ipc.open_file(PACKAGED.read_bytes()).get_batch(0)
    assert batch.nbytes < 12_000_000
    columns = {name: batch.column(name).flatten() for name in batch.schema.names}
    assert len(columns["lemmas"]) == columns["first_synset"].to_pylist()[-1] == 117_659
    assert len(columns["counts"]) == len(columns["lemmas"].flatten()) == 206_978
    assert columns["names"].to_pylist() == sorted(columns["names"].to_pylist())


def test_a_missing_lexicon_is_named(tmp_path: Path) -> None:
    with pytest.raises(FsckitError, match=r"none\.arrow: the lexicon is missing; reinstall fsckit"):
        read_lexicon(tmp_path / "none.arrow")


@pytest.mark.parametrize("size", [0, 7, 1000, -1000, -1])
def test_a_truncated_lexicon_is_rejected(tmp_path: Path, size: int) -> None:
    path = tmp_path / "cut.arrow"
    path.write_bytes(PACKAGED.read_bytes()[:size])
    with pytest.raises(FsckitError, match=r"cut\.arrow: not a lexicon, or damaged"):
        read_lexicon(path)


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "changed.arrow"
    packaged = PACKAGED.read_bytes()
    for at in range(20_000, len(packaged) - 20_000, len(packaged) // 12):
        path.write_bytes(packaged[:at] + bytes([packaged[at] ^ 4]) + packaged[at + 1 :])
        with pytest.raises(FsckitError, match=r"changed\.arrow: .*damaged"):
            read_lexicon(path)


def test_another_arrow_file_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "other.arrow"
    table = pa.table({"a": [1]})
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(FsckitError, match=r"other\.arrow: not a lexicon"):
        read_lexicon(path)


def test_another_format_version_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "newer.arrow"
    batch = pa.ipc.open_file(PACKAGED.read_bytes()).get_batch(0)
    schema = batch.schema.with_metadata(
        {
            k: v.replace(b'"format_version": 1', b'"format_version": 2')
            for k, v in batch.schema.metadata.items()
        }
    )
    with pa.ipc.new_file(str(path), schema) as writer:
        writer.write_batch(batch.cast(schema))
    with pytest.raises(FsckitError, match=r"newer\.arrow: lexicon format 2, but"):
        read_lexicon(path)


def test_ancestors_and_irregular_forms() -> None:
    lexicon = load_lexicon()
    animal = lexicon.sense("animal", "n", 1)
    assert animal in lexicon.ancestors("Felis_domesticus", "n")
    assert animal in lexicon.ancestors("animal", "n")
    assert animal not in lexicon.ancestors("hot_dog", "n")
    assert lexicon.ancestors("qwertyuiop", "n") == frozenset()
    assert lexicon.irregular_forms("outride", "v") == ("outridden", "outrode")
    assert lexicon.irregular_forms("walk", "v") == ()
    assert lexicon.is_irregular("better", "a")
    assert not lexicon.is_irregular("big", "a")
