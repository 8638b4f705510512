"""Replacements: the same sets as nltk's WordNet, word by word, weighted by counts.

The sets are the published support. A draw skips the words that lack the form of the old word.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from fscdata.lexicon.check import nltk_wordnet
from fscdata.negatives.draw import Draw
from fscdata.negatives.inflection import inflect, match_case
from fscdata.negatives.parsing import load_parser
from fscdata.negatives.style import Caption, apply_edits, create_style, seed_key
from fscdata.negatives.styles.replace import (
    Replacements,
    preposition_replacements,
    replaceable,
    word_replacements,
)
from support.wordnet_reference import REFERENCE, digest, nltk_replacements, words_of


def test_support_equals_recorded_nltk() -> None:
    """Every word of the test captions and svlc classes; needs neither nltk nor WordNet."""
    some = 0
    for line in REFERENCE.read_text().splitlines():
        word, pos, count, expected = line.split("\t")
        found = word_replacements(word, pos).words
        assert (len(found), digest(found)) == (int(count), expected), (word, pos)
        some += bool(found)
    assert some > 500


def check(words: list[tuple[str, str]], folder: Path) -> None:
    with nltk_wordnet(folder) as wordnet:
        for word, pos in words:
            expected = nltk_replacements(wordnet, word, pos)
            assert set(word_replacements(word, pos).words) == expected, (word, pos)


@pytest.mark.slow
def test_support_equals_nltk(captions: list[str], wordnet_folder: Path) -> None:
    check(words_of(captions), wordnet_folder)


def test_support_equals_nltk_on_flickr(flickr_captions: list[str], wordnet_folder: Path) -> None:
    check(words_of(flickr_captions)[::7], wordnet_folder)


def test_finds_exactly_the_replacements() -> None:
    caption = "A red dog sits on a mat"
    parse = next(load_parser().parse([caption]))
    found = replaceable(parse)
    assert not isinstance(found, str)
    kinds = {(e.kind, parse.words[e.root]) for e, _ in found}
    assert kinds == {
        ("object", "dog"),
        ("object", "mat"),
        ("attribute", "red"),
        ("relation", "on"),
    }
    prepositions = next(r for e, r in found if e.kind == "relation")
    assert len(prepositions.words) == 74
    assert "on" not in prepositions.words
    assert "in front of" in prepositions.words


def test_distribution_equals_the_published_draw() -> None:
    """Draw up to two replacements for every element, then pick one of them all."""
    replacements = Replacements(("a", "b", "d", "c"), ("x",) * 4, [6, 9, 19, 20])
    counts: Counter[tuple[bool, int]] = Counter()
    for seed in range(20_000):
        draw = Draw(hashlib.blake2b(seed.to_bytes(4, "little"), digest_size=8))
        for second in (False, True):
            index = replacements.draw_two(draw, second, lambda i: replacements.words[i] != "d")
            assert index is not None
            counts[second, "abc".index(replacements.words[index])] += 1
    # The unusable "d" is drawn again.
    p = [0.6, 0.3, 0.1]
    for i in range(3):
        second = sum(p[j] * p[i] / (1 - p[j]) for j in range(3) if j != i)
        assert abs(counts[False, i] / 20_000 - p[i]) < 0.015
        assert abs(counts[True, i] / 20_000 - second) < 0.015


def test_pronouns_are_not_replaced(captions: list[str]) -> None:
    caption = "She holds it near us in the red car"
    parse = next(load_parser().parse([caption]))
    found = replaceable(parse)
    assert not isinstance(found, str)
    assert not any(parse.pos[e.root] == "PRON" for e, _ in found)


def test_reasons() -> None:
    style = create_style("replace")
    expected = {
        "dogs": "fewer than two entities",
        "...": "fewer than two entities",
        "Dogs and cats": "no modifier and no relation",
    }
    for caption, reason in expected.items():
        parse = next(load_parser().parse([caption]))
        assert style.negatives(Caption(caption, parse), Draw(seed_key(0, style)), 3) == reason


def test_negatives_differ_and_their_edits_apply(captions: list[str]) -> None:
    style = create_style("replace")
    made = 0
    for caption, parse in zip(captions, load_parser().parse(captions), strict=True):
        key = seed_key(0, style)
        key.update(caption.encode())
        found = style.negatives(Caption(caption, parse), Draw(key), 5)
        for negative in found if isinstance(found, list) else []:
            assert apply_edits(caption, negative.edits) == negative.text != caption
            assert negative.operator in ("replace:object", "replace:attribute", "replace:relation")
            assert negative.relation in ("antonym", "cohyponym", "preposition")
            assert len(negative.edits) == 1
            made += 1
    assert made > 3 * len(captions)


def test_inflection() -> None:
    cases: dict[tuple[str, str], str | None] = {
        ("goose", "NNS"): "geese",
        ("dining table", "NNS"): "dining tables",
        ("pair of scissors", "NNS"): "pairs of scissors",
        ("look at", "VBG"): "looking at",
        ("run", "VBD"): "ran",
        ("eat", "VBN"): "eaten",
        ("walk", "VBZ"): "walks",
        ("big", "JJR"): "bigger",
        ("walk", "VBP"): "walk",
        ("street", "NN"): "street",
        # WordNet's classes and CLIP's vocabulary tell what has a plural.
        ("furniture", "NNS"): None,
        ("air", "NNS"): None,
        ("futility", "NNS"): None,
        ("equipment", "NNS"): None,
        ("Felis domesticus", "NNS"): None,
        ("qwertyuiop", "NNS"): None,
        ("pizza", "NNS"): "pizzas",
        ("scissors", "NNS"): "scissors",
        ("sheep", "NNS"): "sheep",
        ("he-man", "NNS"): "he-men",
        ("mother-in-law", "NNS"): "mothers-in-law",
        ("Muslim", "NNS"): "Muslims",
        ("bootblack", "NNS"): "bootblacks",
        # Missing from lemminflect's table, or wrong there.
        ("jellify", "VBN"): "jellified",
        ("carnalize", "VBG"): "carnalizing",
        ("decoct", "VBG"): "decocting",
        ("guggle", "VBZ"): "guggles",
        ("water-ski", "VBG"): "water-skiing",
        ("sting", "VBG"): "stinging",
        ("gown", "VBN"): "gowned",
        ("outride", "VBD"): "outrode",
        ("outride", "VBN"): "outridden",
        ("put", "VBD"): "put",
        ("come", "VBN"): "come",
        ("be born", "VBP"): "are born",
        ("better", "JJR"): "better",
        ("better", "JJS"): None,
        ("most", "JJR"): None,
        ("alert", "JJR"): "more alert",
    }
    assert {case: inflect(*case) for case in cases} == cases


def test_replacements_take_the_form_of_the_old_word() -> None:
    """All replacements of a word: its support without the words that have no plural."""
    caption = "Two dogs run over the rocks"
    parse = next(load_parser().parse([caption]))
    style = create_style("replace")
    found = style.negatives(Caption(caption, parse), Draw(seed_key(0, style)), 10_000)
    assert isinstance(found, list)
    new = {negative.edits[0].new for negative in found if negative.edits[0].old == "rocks"}
    words = word_replacements("rocks", "n").words
    assert new == {inflect(word, "NNS") for word in words} - {None, "rocks"}
    assert 0.5 * len(words) < len(new) < len(words)


def test_case_follows_the_replaced_word() -> None:
    assert match_case("bull's eye", "Street") == "Bull's eye"
    assert match_case("road", "STREET") == "ROAD"
    assert match_case("road", "street") == "road"
    assert match_case("in front of", "On") == "In front of"


def test_prepositions_keep_their_weights() -> None:
    replacements = preposition_replacements("on")
    index = replacements.words.index("of")
    before = replacements.cumulative[index - 1]
    assert replacements.cumulative[index] - before == 25_005_823
