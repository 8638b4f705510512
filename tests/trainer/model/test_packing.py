"""Compares packed texts with the same texts encoded one by one, on every kind of text tower."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fsctrain.model import Clip, create_model, encode_packed, encode_texts, pack_texts
from fsctrain.model.lora import apply_lora
from fsctrain.model.packing import _fill

START, END, L = 49406, 49407, 12
ROWS = [
    # No common prefix, a long common prefix, a missing text.
    [[5, 6, 7, 8], [9, 5], [5, 6, 7, 9], None],
    # A prefix of the caption, an extension of it, the caption itself.
    [[5, 6, 7], [5, 6], [5, 6, 7, 8, 9], [5, 6, 7]],
    # The shortest caption and the longest text, which is truncated.
    [[], list(range(1, L - 1)), None, [3]],
    [[4], None, None, None],
]


def packed_rows(rows: list[list[list[int] | None]] = ROWS) -> tuple[Tensor, Tensor]:
    texts = torch.zeros(len(rows), len(rows[0]), L, dtype=torch.long)
    lengths = torch.zeros(texts.shape[:2], dtype=torch.long)
    for i, row in enumerate(rows):
        for c, words in enumerate(row):
            if words is not None:
                ids = torch.tensor([START, *words, END])
                texts[i, c, : len(ids)] = ids
                lengths[i, c] = len(ids)
    return texts, lengths


KINDS = {
    "CLIP": {},
    "CLIP, QuickGELU": {"quick_gelu": True},
    "CustomTextCLIP": {"custom_text": True},
    "projection with bias": {"custom_text": True, "text": {"proj_bias": True}},
    "no projection": {"custom_text": True, "text": {"proj_type": "none"}},
    "end token by id": {"text": {"pool_type": "eos", "eos_id": END}},
    "normalized queries": {"text": {"qk_norm": True}},
}


def make_clip(folder: Path, tiny: str, kind: str) -> Clip:
    config: dict[str, Any] = json.loads(Path(tiny).read_text())
    changes = dict(KINDS[kind])
    config["text_cfg"] |= {"layers": 2} | changes.pop("text", {})
    path = folder / "model.json"
    path.write_text(json.dumps(config | changes))
    torch.manual_seed(0)
    return create_model(str(path), "none")


def one_by_one(clip: Clip, texts: Tensor, lengths: Tensor, *, local: bool) -> tuple[Tensor, Tensor]:
    """The result of `encode_packed` from one pass per text, with zeros for missing texts."""
    exists = lengths > 0
    encoded = [
        encode_texts(clip.model, texts[i, c][None, : int(lengths[i, c])], local=local)
        for i, c in exists.nonzero().tolist()
    ]
    width = encoded[0][0].shape[1]
    features = torch.zeros(*exists.shape, width).masked_scatter(
        exists[..., None], torch.cat([feature for feature, _ in encoded])
    )
    words = torch.zeros(*exists.shape, L, width)
    if local:
        inside = torch.arange(L) < lengths[..., None]
        tokens = torch.cat([tokens[0] for _, tokens in encoded])
        words = words.masked_scatter(inside[..., None], tokens)
    return features, words


def in_sequences(
    clip: Clip, texts: Tensor, lengths: Tensor, *, local: bool
) -> tuple[Tensor, Tensor]:
    features, words = encode_packed(clip.model, pack_texts(texts, lengths), local=local)
    assert (words is None) is not local
    features = features * (lengths > 0)[..., None]
    inside = torch.arange(L) < lengths[..., None]
    if words is None:
        return features, torch.zeros(*inside.shape, features.shape[2])
    return features, words * inside[..., None]


def gradients(clip: Clip, features: Tensor, words: Tensor) -> dict[str, Tensor]:
    """Gradients of a loss that weights every number differently."""
    generator = torch.Generator().manual_seed(0)
    loss = sum((x * torch.randn(x.shape, generator=generator)).sum() for x in (features, words))
    clip.model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in clip.model.named_parameters() if p.grad is not None}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equal up to float32 summation order; the gradient of a key's bias is pure noise."""
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = max(1, float(gradient.abs().max()))
        assert torch.allclose(found[name], gradient, rtol=1e-4, atol=1e-5 * scale), name


@pytest.mark.parametrize("kind", KINDS)
def test_packed_texts_have_the_features_of_single_texts(
    kind: str, tmp_path: Path, tiny_model: str
) -> None:
    clip = make_clip(tmp_path, tiny_model, kind)
    local = kind != "no projection"
    texts, lengths = packed_rows()
    expected = one_by_one(clip, texts, lengths, local=local)
    expected_gradients = gradients(clip, *expected)
    # open_clip cannot checkpoint blocks that normalize queries.
    for checkpointing in (False, True)[: 1 if kind == "normalized queries" else 2]:
        clip.model.set_grad_checkpointing(checkpointing)
        found = in_sequences(clip, texts, lengths, local=local)
        torch.testing.assert_close(found, expected)
        found_gradients = gradients(clip, *found)
        assert_equal(found_gradients, expected_gradients)
    clip.model.eval()
    with torch.no_grad():  # torch's attention takes its fast path
        torch.testing.assert_close(in_sequences(clip, texts, lengths, local=local), expected)


def test_packing_works_with_lora(tmp_path: Path, tiny_model: str) -> None:
    clip = make_clip(tmp_path, tiny_model, "CLIP")
    apply_lora(clip.model, rank=2, alpha=1.0)
    for name, parameter in clip.model.named_parameters():
        if name.endswith(".B"):
            torch.nn.init.normal_(parameter)
    texts, lengths = packed_rows()
    expected = one_by_one(clip, texts, lengths, local=True)
    found = in_sequences(clip, texts, lengths, local=True)
    torch.testing.assert_close(found, expected)
    expected_gradients, found_gradients = gradients(clip, *expected), gradients(clip, *found)
    assert found_gradients
    assert_equal(found_gradients, expected_gradients)


def test_packing_works_in_bf16(tmp_path: Path, tiny_model: str) -> None:
    clip = make_clip(tmp_path, tiny_model, "CLIP")
    texts, lengths = packed_rows()
    expected, _ = one_by_one(clip, texts, lengths, local=True)
    with torch.autocast("cpu", torch.bfloat16):
        features, words = in_sequences(clip, texts, lengths, local=True)
    assert features.dtype == words.dtype == torch.float32
    torch.testing.assert_close(features, expected, rtol=0, atol=2e-2)


def test_shared_prefixes_use_the_same_slots() -> None:
    """A prefix that a negative shares with its caption is stored once, and few slots are empty."""
    texts, lengths = packed_rows([[[5, 6, 7, 8], [5, 6, 9], [5, 6, 7, 8]]] * 40)
    packing = pack_texts(texts, lengths)
    # The caption's six tokens, and the first negative's after 'START 5 6'; the second is equal.
    assert int((packing.tokens != 0).sum()) == 40 * (6 + 2)
    count, size = packing.tokens.shape
    assert size == 96 and count == -(-40 * 8 // 96)
    assert packing.visible.shape == (count, size, size)
    assert packing.visible.diagonal(dim1=1, dim2=2).all() and not packing.visible.triu(1).any()
    inside = torch.arange(L) < lengths[..., None]
    slots = packing.slots[inside]
    assert torch.equal(packing.tokens.flatten()[slots], texts[inside])
    position = torch.arange(L).expand_as(texts)[inside]
    assert torch.equal(packing.positions.flatten()[slots], position)
    # A token attends to itself and to all tokens before it in its text.
    assert torch.equal(packing.visible.flatten(0, 1)[slots].sum(1), position + 1)
    assert torch.equal(packing.tokens.flatten()[packing.ends], torch.full((40, 3), END))


def test_a_long_row_lengthens_the_sequences() -> None:
    words = [list(range(1 + 10 * c, 11 + 10 * c)) for c in range(12)]
    packing = pack_texts(*packed_rows([words, [[1], *[None] * 11]]))
    # Twelve texts of twelve tokens that share the start token, and a row of three.
    assert int((packing.tokens != 0).sum()) == 1 + 12 * 11 + 3
    assert packing.tokens.shape == (1, 136)


@pytest.mark.parametrize("sizes", [[1], [5, 5, 5], [9, 1, 8, 2, 3, 7, 4, 6], [10] * 3, [3] * 7])
def test_bins_do_not_overlap_and_are_well_filled(sizes: list[int]) -> None:
    places, count = _fill(sizes, 10)
    used = [
        (number, slot)
        for (number, place), size in zip(places, sizes, strict=True)
        for slot in range(place, place + size)
    ]
    assert len(set(used)) == len(used) and all(slot < 10 for _, slot in used)
    assert {number for number, _ in places} == set(range(count))
    perfect = {(1,): 1, (5, 5, 5): 2, (10, 10, 10): 3, (3,) * 7: 3}.get(tuple(sizes), 4)
    assert count == perfect
