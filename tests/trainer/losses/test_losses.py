"""Compares every loss with a slow float64 implementation: loops over rows, words and patches."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fscdata.base.errors import FsckitError
from fsctrain.config import Config
from fsctrain.losses import Features, GlobalBatch, load_loss

WORKING = """
USES = {"styles"}

def compute(features, global_batch, config):
    return {"loss": features.negatives.sum(), "part": features.texts.sum()}
"""

SCALARS = "compute must return scalar tensors; 'part' is not one"

B, D, P, L = 4, 6, 5, 7
ALL, SOME, NONE = "all", "some", "none"


def make_config(loss: str = "fsc-clip", **settings: object) -> Config:
    values = {"styles": () if loss == "clip" else ("x",), **settings}
    if loss == "fsc-clip":
        values = {"global_weight": 0.5, "local_weight": 0.2, **values}
    return Config(data="unused", loss=loss, **values)


def make_features(n: int, which: str, seed: int = 0) -> Features:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def unit(*shape: int) -> Tensor:
        return torch.nn.functional.normalize(random(*shape), dim=-1)

    mask = torch.full((B, n), which == ALL)
    if which == SOME and n:
        mask[0, 0] = mask[2, n - 1] = True  # rows 1 and 3 have no negatives
    token_mask = torch.zeros(B, 1 + n, L, dtype=torch.bool)
    lengths = torch.randint(2, L, (B, 1 + n), generator=generator)
    for i in range(B):
        for c in range(1 + n):
            if c == 0 or mask[i, c - 1]:
                token_mask[i, c, 1 : int(lengths[i, c])] = True
    return Features(
        images=unit(B, D),
        texts=unit(B, D),
        negatives=unit(B, n, D),
        negative_mask=mask,
        logit_scale=torch.tensor(9.0, dtype=torch.float64),
        image_tokens=random(B, P, D),
        text_tokens=random(B, 1 + n, L, D),
        text_token_mask=token_mask,
    )


def slow_cross_entropy(logits: list[Tensor], label: int) -> Tensor:
    return torch.log(sum(torch.exp(x - logits[label]) for x in logits))


def slow_clip(f: Features, *, with_negatives: bool) -> Tensor:
    n = f.negative_mask.shape[1]
    extra = [
        f.negatives[i, j]
        for i in range(B)
        for j in range(n)
        if with_negatives and f.negative_mask[i, j]
    ]
    total = torch.zeros((), dtype=torch.float64)
    for i in range(B):
        others = [j for j in range(B) if f.image_ids is None or f.image_ids[j] != f.image_ids[i]]
        kept = sorted({i, *others})
        texts, images = [f.texts[j] for j in kept], [f.images[j] for j in kept]
        rows = [f.logit_scale * torch.dot(f.images[i], t) for t in [*texts, *extra]]
        columns = [f.logit_scale * torch.dot(v, f.texts[i]) for v in images]
        label = kept.index(i)
        total = total + slow_cross_entropy(rows, label) + slow_cross_entropy(columns, label)
    return total / (2 * B)


def slow_focal(scores: list[Tensor], gamma: float, alpha: float) -> Tensor:
    k = len(scores) - 1
    total = torch.zeros((), dtype=torch.float64)
    for c, score in enumerate(scores):
        p = 1 / sum(torch.exp(other - score) for other in scores)
        y = alpha / (k + 1) + (1 - alpha if c == 0 else 0)
        total = total + y * (1 - p) ** gamma * -torch.log(p)
    return total


def slow_hard_negatives(f: Features, score, gamma: float, alpha: float) -> Tensor:
    losses = []
    for i in range(B):
        existing = [j for j in range(f.negative_mask.shape[1]) if f.negative_mask[i, j]]
        if existing:
            scores = [score(i, 0), *(score(i, 1 + j) for j in existing)]
            losses.append(slow_focal(scores, gamma, alpha))
    return sum(losses) / len(losses) if losses else torch.zeros((), dtype=torch.float64)


def slow_global_score(f: Features, i: int, c: int) -> Tensor:
    text = f.texts[i] if c == 0 else f.negatives[i, c - 1]
    return f.logit_scale * torch.dot(f.images[i], text)


def slow_local_score(f: Features, i: int, c: int) -> Tensor:
    words = []
    for t in range(L):
        if not f.text_token_mask[i, c, t]:
            continue
        word = f.text_tokens[i, c, t]
        similarity = [torch.dot(word, patch).item() for patch in f.image_tokens[i]]
        low, high = min(similarity), max(similarity)
        weights = [1.0 if high == low else (s - low) / (high - low) for s in similarity]
        attended = sum(
            w / sum(weights) * patch for w, patch in zip(weights, f.image_tokens[i], strict=True)
        )
        cosine = torch.dot(attended, word) / (attended.norm() * word.norm())
        words.append(torch.exp(f.logit_scale * cosine))
    return torch.log(sum(words))


def slow_loss(f: Features, global_batch: GlobalBatch, config: Config) -> dict[str, Tensor]:
    if config.loss != "fsc-clip":
        return {"loss": slow_clip(f, with_negatives=config.loss == "negclip")}
    settings = config.focal_gamma, config.label_smoothing
    parts = {
        "clip": slow_clip(f, with_negatives=False),
        "global": slow_hard_negatives(f, lambda i, c: slow_global_score(f, i, c), *settings),
        "local": slow_hard_negatives(f, lambda i, c: slow_local_score(f, i, c), *settings),
    }
    loss = (
        parts["clip"]
        + config.global_weight * parts["global"]
        + config.local_weight * parts["local"]
    )
    return {"loss": loss, **parts}


def gradients(
    compute, features: Features, config: Config
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The loss's parts, and its gradient with respect to every tensor of the features."""
    leaves = {
        name: value.clone().requires_grad_()
        for name, value in vars(features).items()
        if value is not None and value.is_floating_point()
    }
    leafy = replace(features, **leaves)
    parts = compute(leafy, GlobalBatch.single_rank(leafy), config)
    parts["loss"].backward()
    return parts, {
        name: leaf.grad if leaf.grad is not None else torch.zeros_like(leaf)
        for name, leaf in leaves.items()
    }


def assert_equal(features: Features, config: Config) -> None:
    fast, fast_gradients = gradients(load_loss(config), features, config)
    slow, slow_gradients = gradients(slow_loss, features, config)
    assert fast.keys() == slow.keys()
    for name, value in slow.items():
        torch.testing.assert_close(fast[name], value, rtol=1e-6, atol=1e-12)
    for name, gradient in slow_gradients.items():
        torch.testing.assert_close(fast_gradients[name], gradient, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("which", [ALL, SOME, NONE])
@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize("loss", ["clip", "negclip", "fsc-clip"])
def test_values_and_gradients_match_the_slow_loss(loss: str, n: int, which: str) -> None:
    assert_equal(make_features(n, which), make_config(loss))


@pytest.mark.parametrize("loss", ["clip", "negclip", "fsc-clip"])
@pytest.mark.parametrize("ids", [[7, 7, -3, 7], [1, 1, 1, 1], [1, 2, 3, 4]])
def test_other_captions_of_an_image_leave_the_softmax(loss: str, ids: list[int]) -> None:
    features = replace(make_features(2, SOME), image_ids=torch.tensor(ids))
    assert_equal(features, make_config(loss, mask_same_image=True))
    # Without the setting, the ids change nothing.
    unmasked = load_loss(make_config(loss))
    found, _ = gradients(unmasked, features, make_config(loss))
    expected, _ = gradients(unmasked, replace(features, image_ids=None), make_config(loss))
    assert torch.equal(found["loss"], expected["loss"])


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 3.5])
@pytest.mark.parametrize("alpha", [0.0, 0.02, 0.3])
def test_focal_exponent_and_smoothing_match_the_slow_loss(gamma: float, alpha: float) -> None:
    config = make_config(focal_gamma=gamma, label_smoothing=alpha)
    assert_equal(make_features(3, SOME), config)


@pytest.mark.parametrize("equal", ["patches", "one", "words"])
def test_equal_similarities_weigh_the_same(equal: str) -> None:
    """Scaling equal similarities is 0/0: such words attend to the plain mean of the patches."""
    features = make_features(2, SOME)
    # Integers, whose dot products are bitwise equal in any summation order.
    features = replace(
        features,
        image_tokens=(4 * features.image_tokens).round(),
        text_tokens=(4 * features.text_tokens).round() + 0.5,
    )
    if equal == "words":
        features = replace(features, text_tokens=features.text_tokens.new_ones(B, 3, L, D))
    patches = features.image_tokens[:, :1]
    count = 1 if equal == "one" else P
    features = replace(features, image_tokens=patches.expand(B, count, D).clone())
    config = make_config()
    parts, found = gradients(load_loss(config), features, config)
    assert all(torch.isfinite(x).all() for x in [*parts.values(), *found.values()])
    assert_equal(features, config)


@pytest.mark.parametrize("n", [0, 2])
def test_a_batch_without_negatives_trains_only_clip(n: int) -> None:
    """The hard-negative parts are exactly 0, have a graph, and leave CLIP's gradient unchanged."""
    features = make_features(n, NONE)
    hard, hard_gradients = gradients(load_loss(make_config()), features, make_config())
    assert hard["global"].item() == 0 and hard["local"].item() == 0
    assert hard["global"].requires_grad and hard["local"].requires_grad
    clip, clip_gradients = gradients(load_loss(make_config("clip")), features, make_config("clip"))
    assert torch.equal(hard["loss"], clip["loss"])
    for name, gradient in clip_gradients.items():
        assert torch.equal(hard_gradients[name], gradient), name


def test_missing_negatives_are_ignored() -> None:
    """Placeholder values of missing negatives change nothing, unless they are NaN."""
    features, config = make_features(3, SOME), make_config()
    other = make_features(3, SOME, seed=1)
    mask = features.negative_mask[..., None]
    changed = replace(
        features,
        negatives=torch.where(mask, features.negatives, other.negatives),
        text_tokens=torch.where(
            features.text_token_mask[..., None], features.text_tokens, other.text_tokens
        ),
    )
    for loss in ("negclip", "fsc-clip"):
        config = make_config(loss)
        compute = load_loss(config)
        one, other = (compute(f, GlobalBatch.single_rank(f), config) for f in (features, changed))
        assert torch.equal(one["loss"], other["loss"])


def test_global_loss_without_masking_is_cross_entropy() -> None:
    """If no negative is missing, the loss is an unmasked (1 + N)-way cross-entropy."""
    features = make_features(3, ALL)
    config = make_config(focal_gamma=0, label_smoothing=0)
    found = load_loss(config)(features, GlobalBatch.single_rank(features), config)["global"]
    logits = 9 * torch.stack(
        [(features.images * features.texts).sum(1)]
        + [(features.images * features.negatives[:, j]).sum(1) for j in range(3)],
        dim=1,
    )
    expected = torch.nn.functional.cross_entropy(logits, torch.zeros(B, dtype=torch.long))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("off", ["global", "local"])
def test_parts_of_weight_zero_are_skipped(off: str) -> None:
    config = make_config(**{f"{off}_weight": 0.0})
    features = make_features(2, SOME)
    if off == "local":
        features = replace(features, image_tokens=None, text_tokens=None, text_token_mask=None)
    parts = load_loss(config)(features, GlobalBatch.single_rank(features), config)
    assert set(parts) == {"loss", "clip", "global", "local"} - {off}


def test_a_confident_model_has_finite_gradients() -> None:
    """Probabilities of exactly 0 and 1 in float32; for γ < 1, (1 − p)^γ has an infinite slope."""
    features = make_features(1, ALL)
    features = Features(
        **{
            name: value.float() if value is not None and value.is_floating_point() else value
            for name, value in vars(features).items()
        }
    )
    features = replace(
        features,
        texts=features.images,
        negatives=-features.images[:, None],
        logit_scale=torch.tensor(100.0),
    )
    for gamma in (0.0, 0.5, 2.0):
        config = make_config(focal_gamma=gamma)
        parts, found = gradients(load_loss(config), features, config)
        assert all(torch.isfinite(x).all() for x in [*parts.values(), *found.values()])
        assert math.isfinite(parts["loss"].item())


def test_unknown_losses_and_unsuitable_settings_are_refused() -> None:
    with pytest.raises(FsckitError, match="unknown loss 'siglip'; choose clip, fsc-clip, negclip"):
        load_loss(make_config("siglip"))
    with pytest.raises(FsckitError, match="`loss` clip ignores `styles`; set `styles` to ''"):
        load_loss(make_config("clip", styles=("x",)))
    with pytest.raises(
        FsckitError, match="`loss` negclip ignores `local_weight`; set `local_weight` to 0"
    ):
        load_loss(make_config("negclip", local_weight=0.2))
    with pytest.raises(FsckitError, match="`loss` fsc-clip needs negatives; set `styles`"):
        load_loss(make_config(styles=()))


@pytest.fixture
def write_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Write a loss `mine`, as a user would, where losses are looked up."""

    def write(text: str) -> Path:
        path = tmp_path / "mine.py"
        path.write_text(text)
        monkeypatch.setattr("fsctrain.losses.__path__", [str(tmp_path)])
        monkeypatch.delitem(sys.modules, "fsctrain.losses.mine", raising=False)
        return path

    return write


def test_a_users_loss_is_found(write_loss: Callable[[str], Path]) -> None:
    write_loss(WORKING)
    features = make_features(1, ALL)
    parts = load_loss(make_config("mine"))(features, GlobalBatch.single_rank(features), None)
    assert parts.keys() == {"loss", "part"}
    with pytest.raises(FsckitError, match="`loss` mine ignores `local_weight`"):
        load_loss(make_config("mine", local_weight=0.2))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("def compute(", "def calculate(", "has no function `compute`"),
        ('USES = {"styles"}', "", "USES must be the set of settings the loss reads"),
        ('{"styles"}', '{"margin"}', "USES must be the set .* from styles, global_weight"),
        ("def compute", "import nowhere\ndef compute", "cannot be imported .*No module named"),
        ("def compute", "def def", r"cannot be imported \(invalid syntax"),
        ('"loss": features', '"mine": features', "compute must return a dict with the key 'loss'"),
        ('{"loss":', '[1] or {"loss":', "compute must return a dict"),
        ("texts.sum()", "texts", "compute must return scalar tensors; 'part' is not one"),
        (
            "texts.sum()",
            "texts.sum().item()",
            "compute must return scalar tensors; 'part' is not one",
        ),
    ],
)
def test_a_broken_loss_is_reported(
    old: str, new: str, message: str, write_loss: Callable[[str], Path]
) -> None:
    assert old in WORKING
    path = write_loss(WORKING.replace(old, new))
    features = make_features(1, ALL)
    with pytest.raises(FsckitError, match=f"{path}: {message}"):
        load_loss(make_config("mine"))(features, GlobalBatch.single_rank(features), None)


def test_a_loss_may_be_a_file_anywhere(tmp_path: Path) -> None:
    """Its digest tells whether it has changed since a state was saved."""
    path = tmp_path / "my loss.py"
    path.write_text(WORKING)
    features, config = make_features(1, ALL), make_config(str(path))
    parts = load_loss(config)(features, GlobalBatch.single_rank(features), config)
    assert torch.equal(parts["loss"], features.negatives.sum())
    before = load_loss(config).digest
    path.write_text(WORKING + "\n")
    assert before is not None and before != load_loss(config).digest
    assert load_loss(make_config("clip")).digest is None
    path.unlink()
    with pytest.raises(FsckitError, match=r"my loss\.py: file not found"):
        load_loss(config)
