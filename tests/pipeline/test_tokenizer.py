"""Token ids match open_clip's."""

from __future__ import annotations

from itertools import pairwise

import open_clip
import pytest
from open_clip.tokenizer import SimpleTokenizer

from fscdata import tokenizer
from fscdata.tokenizer import CLIP_BPE, ClipTokenizer, tokenizer_of

ODD = [
    "",
    "a & b &amp; c &lt;br&gt; &amp;amp;",
    "ÜBER café naïve ﬁne ﬀ",
    "dog's it's we'll I'D they'RE 'S",
    "<start_of_text> hi <end_of_text> <START_OF_TEXT>",
    "\x00nul\x07 \x1b[31mred\x1b[0m",
    "İstanbul ǅ 1234 ٣٤ ½ x²",
    "\x00 a \x01 &#0; &#1; &amp;#0; &amp;amp;#1; b \x00",
    "a\u00a0b\u2003c\u200bd",
    "…'' “q” ‘s â€œmojibakeâ€\x9d",
    "x" * 600,
]


@pytest.fixture(scope="module")
def pair() -> tuple[ClipTokenizer, SimpleTokenizer]:
    return ClipTokenizer(), SimpleTokenizer()


def check(pair: tuple[ClipTokenizer, SimpleTokenizer], texts: list[str]) -> None:
    ours, theirs = pair
    for text in texts:
        assert ours(text) == [theirs.sot_token_id, *theirs.encode(text), theirs.eot_token_id], text


def test_ids_equal_open_clip(pair, captions: list[str]) -> None:
    check(pair, ODD)
    check(pair, captions)
    check(pair, captions)  # from the cache


def test_a_batch_equals_single_texts(pair, captions: list[str], monkeypatch) -> None:
    ours, _ = pair
    texts = [*ODD, *captions[-20:]]
    ids, offsets = ours.batch(texts)
    parts = [ids[a:b].tolist() for a, b in pairwise(offsets)]
    assert parts == [ours(text) for text in texts]
    monkeypatch.setattr(tokenizer, "_CACHE_SIZE", 5)
    assert parts == [ours(text) for text in texts], "also when the cache overflows"
    assert [len(part) for part in ours.batch([])] == [0, 1]


def test_equals_open_clip_on_flickr(pair, flickr_captions: list[str]) -> None:
    check(pair, flickr_captions)


def test_the_listed_models_have_this_tokenizer() -> None:
    for name in open_clip.list_models():
        text = open_clip.get_model_config(name)["text_cfg"]
        own = not (text.get("hf_tokenizer_name") or text.get("hf_model_name"))
        own = own and not text.get("tokenizer_kwargs") and text.get("vocab_size", 49408) == 49408
        if own:
            assert tokenizer_of(name) == CLIP_BPE
        else:
            with pytest.raises(ValueError, match="'none' to let the trainer tokenize"):
                tokenizer_of(name)
    assert tokenizer_of("none") is None
