"""Which parameters are decayed, and the learning rate of each step."""

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


def test_frozen_parameters_are_excluded(tiny_model: str) -> None:
    model = create_model(tiny_model, "none").model
    model.visual.requires_grad_(False)
    groups = make_optimizer(model, Config(data="x")).param_groups
    optimized = {id(p) for group in groups for p in group["params"]}
    assert optimized == {
        id(p) for name, p in model.named_parameters() if not name.startswith("visual.")
    }


def rates(steps: int, **settings: object) -> list[float]:
    config = Config(data="x", lr=2.0, **settings)
    return [learning_rate(step, steps, config) for step in range(steps)]


def test_cosine_decays_to_zero_after_the_warm_up() -> None:
    schedule = rates(12, warmup=4)
    assert schedule[:5] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert schedule[8] == pytest.approx(1.0)
    assert schedule[4:] == sorted(schedule[4:], reverse=True) and 0 < schedule[-1] < 0.1
    assert rates(3, warmup=0)[0] == 2.0
    assert rates(3, warmup=4)[2] == 1.5  # shorter than its warm-up


def test_constant_stays_after_the_warm_up() -> None:
    assert rates(6, schedule="constant", warmup=2) == [1.0, 2.0, 2.0, 2.0, 2.0, 2.0]


def test_cooldown_decays_linearly_at_the_end() -> None:
    schedule = rates(9, schedule="cooldown", warmup=2, cooldown=4)
    assert schedule == [1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.5, 1.0, 0.5]
