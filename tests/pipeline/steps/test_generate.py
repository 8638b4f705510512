import subprocess
import sys
from pathlib import Path

import pytest

import fscdata
from fscdata.base.errors import FsckitError
from fscdata.contract import negatives_path, read_metadata, read_table, styles_present
from fscdata.negatives.model import MAX_CHARACTERS
from fscdata.negatives.style import apply_edits
from fscdata.recipes import parse_recipe
from fscdata.steps.expected import Settings
from fscdata.steps.negatives import make_negatives
from support.captions import ODD, TEMPLATES
from support.tars import write_shards

CAPTIONS = [*TEMPLATES[:12], *ODD, "long " * MAX_CHARACTERS]


def test_negatives_equal_those_that_make_negatives_stores(tmp_path: Path) -> None:
    write_shards(tmp_path, [[(f"{i:03d}", [caption]) for i, caption in enumerate(CAPTIONS)]])
    make_negatives(tmp_path, Settings("all", variants=3, seed=7))
    results = fscdata.negatives_of(CAPTIONS, "all", variants=3, seed=7)
    assert [result.caption for result in results] == CAPTIONS
    styles = [style.name for style in parse_recipe("all")]
    assert styles_present(tmp_path) == sorted(styles)
    for style in styles:
        path = negatives_path(tmp_path, style, "00000")
        stored = [
            (int(row["key"]), row["negative"], row["operator"], row["relation"], row["edits"])
            for row in read_table(path).to_pylist()
        ]
        assert stored
        assert stored == [
            (i, n.text, n.operator, n.relation, [edit._asdict() for edit in n.edits])
            for i, result in enumerate(results)
            for n in result.negatives
            if n.style == style
        ]
        reasons = [r.without[style] for r in results if style in r.without]
        assert read_metadata(path).shard.without == {r: reasons.count(r) for r in set(reasons)}


def test_every_style_gives_negatives_or_a_reason() -> None:
    for result in fscdata.negatives_of([TEMPLATES[0], "dog"]):
        made = {negative.style for negative in result.negatives}
        assert made | result.without.keys() == {"negclip", "replace", "shuffle-2"}
        assert not made & result.without.keys()
        for negative in result.negatives:
            assert apply_edits(result.caption, list(negative.edits)) == negative.text


@pytest.mark.parametrize(
    ("captions", "options", "words"),
    [
        ("a dog", {}, "expected a list of texts, not one text"),
        ([None], {}, "None is not Unicode text"),
        (["half \ud800"], {}, r"'half \\ud800' is not Unicode text"),
        (["a dog"], {"variants": 0}, "`variants` 0: choose 1 to 127"),
        (["a dog"], {"recipe": "nope"}, "unknown recipe 'nope'; choose a recipe .fsc-clip, all"),
    ],
)
def test_a_mistake_gives_one_sentence(captions, options, words) -> None:
    with pytest.raises(FsckitError, match=words):
        fscdata.negatives_of(captions, **options)


def test_no_captions_give_no_results() -> None:
    assert fscdata.negatives_of([]) == []


def test_importing_fscdata_imports_none_of_its_modules() -> None:
    code = "import fscdata, sys; print([m for m in sys.modules if m.startswith('fscdata.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert all(getattr(fscdata, name) for name in fscdata.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        fscdata.nope  # noqa: B018
