"""Scores of features with known answers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fsctrain.benchmarks import choice_accuracy, recall_at_k


def test_choice_counts_ties_half() -> None:
    images = torch.eye(4)
    true = torch.eye(4)
    false = torch.eye(4).roll(1, 0)
    assert choice_accuracy(images, true, false) == 1
    assert choice_accuracy(images, false, true) == 0
    assert choice_accuracy(images, true, true) == 0.5
    mixed = torch.cat([false[:1], true[1:2], true[:0], torch.eye(4)[2:]])
    assert choice_accuracy(images, true, mixed) == (1 + 0.5 * 3) / 4


def test_choice_refuses_unequal_or_empty_shapes() -> None:
    with pytest.raises(ValueError, match="three non-empty tensors of equal shape"):
        choice_accuracy(torch.eye(4), torch.eye(4)[:3], torch.eye(4))
    with pytest.raises(ValueError, match="three non-empty tensors of equal shape"):
        choice_accuracy(*[torch.zeros(0, 4)] * 3)


def test_recall_matches_sorting() -> None:
    generator = torch.Generator().manual_seed(0)
    images = F.normalize(torch.randn(30, 8, generator=generator), dim=1)
    image_of_text = torch.randint(30, (90,), generator=generator)
    image_of_text[:30] = torch.arange(30)
    noise = torch.randn(90, 8, generator=generator)
    texts = F.normalize(images[image_of_text] + 0.6 * noise, dim=1)
    found = recall_at_k(images, texts, image_of_text, ks=(1, 3))
    scores = images @ texts.T
    for k in (1, 3):
        by_image = [
            any(image_of_text[t] == i for t in scores[i].argsort(descending=True)[:k])
            for i in range(30)
        ]
        by_text = [
            bool((scores[:, t].argsort(descending=True)[:k] == image_of_text[t]).any())
            for t in range(90)
        ]
        assert found[f"image_to_text_recall@{k}"] == pytest.approx(sum(by_image) / 30)
        assert found[f"text_to_image_recall@{k}"] == pytest.approx(sum(by_text) / 90)
        assert 0 < sum(by_image) < 30


def test_equal_features_score_zero() -> None:
    features = torch.ones(5, 4) / 2
    assert set(recall_at_k(features, features, torch.arange(5), ks=(1,)).values()) == {0.0}
