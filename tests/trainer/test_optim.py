"""Who is decayed, and the rate of each step."""

from __future__ import annotations

import pytest

from fsctrain.config import Config
from fsctrain.model import create_model
from fsctrain.optim import learning_rate, make_optimizer


def test_only_matrices_are_decayed(tiny_model: str) -> None:
    model = create_model(tiny_model, "none").model
    config = Config(data="x", weight_decay=0.3)
    decayed, others = make_optimizer(model, config).param_groups
    assert decayed["weight_decay"] == 0.3 and others["weight_decay"] == 0
    assert decayed["betas"] == (0.9, 0.98) and decayed["eps"] == 1e-6
    assert len(decayed["params"]) + len(others["params"]) == len(list(model.parameters()))
    assert any(p is model.logit_scale for p in others["params"])
    assert any(p is model.token_embedding.weight for p in decayed["params"])
    assert all(p.ndim >= 2 for p in decayed["params"]) and all(p.ndim < 2 for p in others["params"])


def test_schedule() -> None:
    config = Config(data="x", lr=2.0, warmup=4)
    rates = [learning_rate(step, 12, config) for step in range(12)]
    assert rates[:5] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert rates[8] == pytest.approx(1.0)
    assert rates[4:] == sorted(rates[4:], reverse=True) and 0 < rates[-1] < 0.1
    assert learning_rate(0, 3, Config(data="x", lr=2.0, warmup=0)) == 2.0
    assert learning_rate(2, 3, config) == 1.5  # shorter than its warm-up
