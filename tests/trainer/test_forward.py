"""The features of a batch: every text in its own position, and empty batches."""

from __future__ import annotations

from dataclasses import replace
from functools import partialmethod
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fsctrain.config import Config
from fsctrain.data import Batch, Batches, read_data
from fsctrain.forward import forward
from fsctrain.losses import Features, GlobalBatch, load_loss
from fsctrain.model import OpenClip, compile_towers, create_model, encode_images, encode_texts
from fsctrain.model.lora import apply_lora

ROWS = 12


@pytest.fixture
def model(tiny_model: str) -> OpenClip:
    torch.manual_seed(0)
    return create_model(tiny_model, "none").model.train()


@pytest.fixture
def batch(data: Path, tiny_model: str) -> Batch:
    table = read_data((str(data),), (), ("colour", "shape"), create_model(tiny_model, "none"))
    return Batches(table, ROWS, (32, 32), crop_scale=(1, 1), seed=0)[0]


def some(batch: Batch, rows: int) -> Batch:
    names = ("images", "tokens", "negative_tokens", "negative_mask", "keys")
    return replace(batch, **{name: getattr(batch, name)[:rows] for name in names})


def gradients(model: OpenClip, features: Features, config: Config) -> dict[str, Tensor]:
    """Gradients of the full fsc-clip loss by parameter, if any."""
    model.zero_grad()
    load_loss(config)(features, GlobalBatch.single_rank(features), config)["loss"].backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_every_text_has_its_own_features(model: OpenClip, batch: Batch) -> None:
    features = forward(model, batch, local=True)
    plain = forward(model, batch, local=False)
    assert plain.image_tokens is None and plain.text_tokens is None
    torch.testing.assert_close(plain.negatives, features.negatives)
    assert not batch.negative_mask.all() and batch.negative_mask.any()
    images, patches = encode_images(model, batch.images, local=True)
    torch.testing.assert_close(features.images, images)
    torch.testing.assert_close(features.image_tokens, patches)
    for i in range(ROWS):
        for c in range(3):
            ids = batch.tokens[i] if c == 0 else batch.negative_tokens[i, c - 1]
            present = c == 0 or bool(batch.negative_mask[i, c - 1])
            count = int((ids != 0).sum())
            assert features.text_token_mask[i, c].sum() == (count - 1 if present else 0)
            if not present:
                assert not features.negatives[i, c - 1].any()
                continue
            assert features.text_token_mask[i, c, 1:count].all()
            feature, tokens = encode_texts(model, ids[None, :count], local=True)
            found = features.texts[i] if c == 0 else features.negatives[i, c - 1]
            torch.testing.assert_close(found, feature[0])
            torch.testing.assert_close(features.text_tokens[i, c, :count], tokens[0])


def test_rows_do_not_affect_one_another(model: OpenClip, batch: Batch) -> None:
    whole, part = forward(model, batch, local=True), forward(model, some(batch, 5), local=True)
    for name in ("images", "texts", "negatives", "image_tokens"):
        torch.testing.assert_close(getattr(part, name), getattr(whole, name)[:5])
    inside = part.text_token_mask
    assert torch.equal(inside, whole.text_token_mask[:5])
    torch.testing.assert_close(part.text_tokens[inside], whole.text_tokens[:5][inside])


def test_accepts_a_batch_without_negatives(model: OpenClip, batch: Batch) -> None:
    rows, _, length = batch.negative_tokens.shape
    alone = replace(
        batch,
        negative_tokens=batch.negative_tokens.new_zeros(rows, 0, length),
        negative_mask=batch.negative_mask.new_zeros(rows, 0),
    )
    features = forward(model, alone, local=False)
    assert features.negatives.shape[:2] == (rows, 0)
    torch.testing.assert_close(features.texts, forward(model, batch, local=False).texts)


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_accepts_a_batch_without_rows(
    model: OpenClip, batch: Batch, local: bool, checkpointing: bool
) -> None:
    """It has no features, but gives every parameter that other ranks train a zero gradient."""
    model.set_grad_checkpointing(checkpointing)
    none = forward(model, some(batch, 0), local=local)
    full = forward(model, batch, local=local)
    for name, value in vars(full).items():
        found = getattr(none, name)
        if value is None or name == "logit_scale":
            assert (found is None) == (value is None)
        else:
            assert found.shape[0] == 0 and found.dtype == value.dtype
            if name not in ("text_tokens", "text_token_mask"):  # their length is the batch's
                assert found.shape[1:] == value.shape[1:]
    sum(v.sum() for v in vars(none).values() if v is not None and v.requires_grad).backward()
    for name, parameter in model.named_parameters():
        expected = model.logit_scale.exp().item() if name == "logit_scale" else 0
        assert torch.equal(parameter.grad, torch.full_like(parameter, expected)), name


def test_accepts_a_batch_without_rows_and_texts(model: OpenClip, batch: Batch) -> None:
    """If every image is bad, no text determines the length."""
    none = some(batch, 0)
    none = replace(none, tokens=none.tokens[:, :0], negative_tokens=none.negative_tokens[:, :, :0])
    assert forward(model, none, local=True).negatives.shape == (0, 2, 32)


@pytest.mark.slow
@pytest.mark.parametrize(("lora", "checkpointing"), [(False, False), (True, True)])
def test_compiled_towers_give_the_same_gradients(
    model: OpenClip, batch: Batch, config: Config, monkeypatch, lora: bool, checkpointing: bool
) -> None:
    """Both towers are traced as one graph, and the weights keep their names.

    This skips Inductor, which takes a minute and receives the same graph.
    """
    if lora:
        apply_lora(model, rank=2, alpha=1.0)
    names = list(model.state_dict())
    model.set_grad_checkpointing(checkpointing)
    expected = gradients(model, forward(model, batch, local=True), config)
    compiled = partialmethod(nn.Module.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(nn.Module, "compile", compiled)
    torch._dynamo.reset()
    compile_towers(model)
    torch._dynamo.utils.counters.clear()
    for rows in (ROWS, 5):
        features = forward(model, some(batch, rows), local=True)
        found = gradients(model, features, config)
        if rows == ROWS:
            assert found.keys() == expected.keys()
            for name, gradient in expected.items():
                torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2
    assert list(model.state_dict()) == names
