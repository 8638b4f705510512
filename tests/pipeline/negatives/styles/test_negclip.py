"""NegCLIP's swaps, compared with an independent, slow implementation."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from functools import cache
from itertools import combinations

import pytest
import spacy
from spacy.matcher import Matcher
from spacy.tokens import Doc, Span

from fscdata.negatives.draw import Draw
from fscdata.negatives.parsing import load_parser
from fscdata.negatives.style import Caption, apply_edits, create_style, seed_key
from fscdata.negatives.styles.negclip import swap_pairs


@cache
def pipeline() -> tuple[spacy.language.Language, Matcher]:
    nlp = spacy.load(load_parser().info.model_name, exclude=["ner", "lemmatizer"])
    matcher = Matcher(nlp.vocab)
    pattern = [("VERB", "?"), ("ADV", "*"), ("AUX", "*"), ("VERB", "+")]
    matcher.add("verb phrase", [[{"POS": pos, "OP": op} for pos, op in pattern]])
    return nlp, matcher


def families(doc: Doc) -> dict[str, list[Span]]:
    _, matcher = pipeline()
    single = lambda keep: [doc[t.i : t.i + 1] for t in doc if keep(t)]  # noqa: E731
    return {
        name: spacy.util.filter_spans(spans)
        for name, spans in {
            "noun_phrase": [c for c in doc.noun_chunks if len(c) > 2],
            "verb_phrase": matcher(doc, as_spans=True),
            "noun": single(lambda t: t.tag_ == "NN"),
            "plural_noun": single(lambda t: t.tag_ == "NNS"),
            "adverb": single(lambda t: t.pos_ == "ADV"),
            "adjective": single(lambda t: t.pos_ == "ADJ"),
        }.items()
    }


def slow_swaps(doc: Doc) -> set[tuple[str, str]]:
    """(family, negative) of every pair."""
    found = set()
    for name, spans in families(doc).items():
        for a, b in combinations(sorted(spans, key=lambda s: s.start), 2):
            if a.text != b.text:
                middle = doc.text[a.end_char : b.start_char]
                text = doc.text[: a.start_char] + b.text + middle + a.text + doc.text[b.end_char :]
                found.add((name, text))
    return found


def fast_swaps(parse) -> set[tuple[str, str]]:
    found = set()
    for name, (a, b), (c, d), weight in swap_pairs(parse):
        assert weight > 0
        text = parse.text
        found.add((name, text[:a] + text[c:d] + text[b:c] + text[a:b] + text[d:]))
    return found


def check(captions: list[str]) -> int:
    nlp, _ = pipeline()
    pairs = 0
    for parse, doc in zip(load_parser().parse(captions), nlp.pipe(captions), strict=True):
        expected = slow_swaps(doc)
        assert fast_swaps(parse) == expected, parse.text
        pairs += len(expected)
    return pairs


@pytest.mark.slow
def test_support_on_templates(captions: list[str]) -> None:
    assert check(captions) > len(captions)


def test_support_on_flickr(flickr_captions: list[str]) -> None:
    assert check(flickr_captions) > len(flickr_captions)


def reference_draw(doc: Doc, rng: random.Random) -> str | None:
    """One draw as in the published code."""
    results = []
    for spans in families(doc).values():
        if len(spans) < 2:
            continue
        a, b = sorted(rng.sample(spans, 2), key=lambda s: s.start)
        if a.text != b.text:
            middle = doc.text[a.end_char : b.start_char]
            results.append(
                doc.text[: a.start_char] + b.text + middle + a.text + doc.text[b.end_char :]
            )
    return rng.choice(results) if results else None


@pytest.mark.slow
def test_distribution_equals_the_published_draw() -> None:
    caption = "A dog and a dog chase the big red ball and a small cat near two old men and boys"
    nlp, _ = pipeline()
    doc, parse = nlp(caption), next(load_parser().parse([caption]))
    rng = random.Random(0)
    draws = Counter(t for t in (reference_draw(doc, rng) for _ in range(20_000)) if t)
    style = create_style("negclip")
    ours: Counter[str] = Counter()
    for seed in range(20_000):
        key = hashlib.blake2b(seed.to_bytes(4, "little"), digest_size=8)
        ours[style.negatives(Caption(caption, parse), Draw(key), 1)[0].text] += 1
    assert set(ours) == set(draws)
    total = draws.total()
    distance = sum(abs(draws[t] / total - ours[t] / 20_000) for t in draws) / 2
    assert distance < 0.03


def test_variants_are_different_and_edits_apply(captions: list[str]) -> None:
    style = create_style("negclip")
    made = 0
    for caption, parse in zip(captions, load_parser().parse(captions), strict=True):
        key = seed_key(0, style)
        key.update(caption.encode())
        found = style.negatives(Caption(caption, parse), Draw(key), 5)
        if isinstance(found, str):
            long = "more than 10,000 swaps"
            assert found == (
                "no two spans of a family that differ" if len(caption) < 1000 else long
            )
            continue
        assert len({n.text for n in found}) == len(found) <= 5
        for negative in found:
            assert negative.text != caption
            assert apply_edits(caption, negative.edits) == negative.text
            assert [caption[e.start : e.end] for e in negative.edits] == [
                e.old for e in negative.edits
            ]
        made += len(found)
    assert made > len(captions)


def test_more_variants_extend_fewer(captions: list[str]) -> None:
    style = create_style("negclip")
    caption = captions[0]
    parse = next(load_parser().parse([caption]))
    texts = []
    for variants in (1, 3, 9):
        key = seed_key(7, style)
        key.update(caption.encode())
        texts.append(
            [n.text for n in style.negatives(Caption(caption, parse), Draw(key), variants)]
        )
    assert texts[2][:1] == texts[0]
    assert texts[2][:3] == texts[1]


def test_takes_no_argument() -> None:
    with pytest.raises(ValueError, match="takes no argument"):
        create_style("negclip-2")
