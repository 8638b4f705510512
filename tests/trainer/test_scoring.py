"""Compares scores on a validation set with those of open_clip's own features."""

from __future__ import annotations

import io
import logging
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image

from fscdata.base.errors import FsckitError
from fsctrain.benchmarks import choice_accuracy, recall_at_k
from fsctrain.config import Config
from fsctrain.model import Clip, create_model
from fsctrain.scoring import ValidationScorer

SIZE = (32, 32)


@pytest.fixture
def clip(tiny_model: str) -> Clip:
    torch.manual_seed(0)
    clip = create_model(tiny_model, "none")
    clip.model.eval()
    return clip


@pytest.fixture
def settings(config: Config, data: Path) -> Config:
    return config.model_copy(update={"validation": str(data), "data": ("elsewhere",)})


@torch.no_grad()
def expected_scores(clip: Clip, samples: list) -> dict[str, float]:
    """Computed only with open_clip: its transform, tokenizer with full padding and encoders."""
    model = clip.model
    preprocess = open_clip.image_transform(32, is_train=False)
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    pixels = [preprocess(Image.open(io.BytesIO(sample.image))) for sample in samples]
    images = model.encode_image(torch.stack(pixels), normalize=True)

    def encode(texts: list[str]) -> torch.Tensor:
        return model.encode_text(tokenizer(texts), normalize=True)

    scores = {}
    for style in ("colour", "shape"):
        triples = [
            (number, caption, variants[0])
            for number, sample in enumerate(samples)
            for caption, variants in zip(sample.captions, sample.negatives[style], strict=True)
            if variants
        ]
        which, true, false = zip(*triples, strict=True)
        scores[f"choice/{style}"] = choice_accuracy(
            images[list(which)], encode(list(true)), encode(list(false))
        )
    captions = [(n, caption) for n, sample in enumerate(samples) for caption in sample.captions]
    image_of_text = torch.tensor([n for n, _ in captions])
    scores |= recall_at_k(images, encode([text for _, text in captions]), image_of_text, ks=(1,))
    return scores | {"score": sum(scores.values()) / 4}


def add_captions(samples: list) -> None:
    """Give some images a second caption with its own negatives."""
    for sample in samples[::2]:
        sample.captions.append(f"one {sample.captions[0].removeprefix('a ')}")
        sample.negatives["colour"].append(["one tall pink image"])
        sample.negatives["shape"].append([])


@pytest.mark.slow
def test_scores_match_open_clip(clip: Clip, settings: Config, make_data, samples) -> None:
    add_captions(samples)
    make_data(samples)
    found = ValidationScorer(clip, settings, SIZE)(clip.model, 0)
    assert found == pytest.approx(expected_scores(clip, samples), abs=1e-6)
    assert 0 < found["choice/colour"] < 1 and 0 < found["score"] < 1
    plain = settings.model_copy(update={"styles": (), "loss": "clip"})
    assert ValidationScorer(clip, plain, SIZE)(clip.model, 0) == found  # whatever its styles


def test_scores_do_not_vary(clip: Clip, settings: Config) -> None:
    """They do not depend on the number of workers, and torch's generator does not change."""
    before = torch.get_rng_state()
    validation = ValidationScorer(clip, settings, SIZE)
    first = validation(clip.model, 1)
    assert validation(clip.model, 2) == first
    two = ValidationScorer(clip, settings.model_copy(update={"workers": 2}), SIZE)
    assert two(clip.model, 3) == first
    assert torch.equal(torch.get_rng_state(), before)


def test_scores_a_single_image(clip: Clip, settings: Config, make_data, samples) -> None:
    """It is always found; a negative equal to its caption is not scored."""
    sample = samples[0]
    sample.negatives = {"colour": [[sample.captions[0]]], "shape": [["a wide red image"]]}
    shutil.rmtree(make_data([sample]))  # removes the shards of the other samples
    make_data([sample])
    found = ValidationScorer(clip, settings, SIZE)(clip.model, 0)
    assert found.keys() == {"choice/shape", "score"} | {
        f"{way}_recall@1" for way in ("image_to_text", "text_to_image")
    }
    assert found["image_to_text_recall@1"] == found["text_to_image_recall@1"] == 1


def test_skips_bad_images(
    clip: Clip,
    settings: Config,
    make_data,
    samples,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_captions(samples)
    samples[2].image, samples[7].image = b"<html>", b"\xff\xd8\xff"
    make_data(samples)
    validation = ValidationScorer(clip, settings, SIZE)
    caplog.clear()
    monkeypatch.setattr(logging.getLogger("fsctrain"), "handlers", [caplog.handler])
    with caplog.at_level(logging.WARNING, "fsctrain"):
        found = validation(clip.model, 6)
    good = [sample for number, sample in enumerate(samples) if number not in (2, 7)]
    assert found == pytest.approx(expected_scores(clip, good), abs=1e-6)
    message = caplog.messages[0]
    assert message.startswith(f"step 6: {settings.validation}: skipped images: not an image: ")
    for sample in samples:
        sample.image = b"<html>"
    make_data(samples)
    with pytest.raises(FsckitError, match=r"no image could be used \(not an image: 12\)"):
        ValidationScorer(clip, settings, SIZE)(clip.model, 0)


@pytest.mark.parametrize("workers", [0, 1])
def test_refuses_a_tar_that_changed(workers: int, clip: Clip, settings: Config) -> None:
    validation = ValidationScorer(clip, settings.model_copy(update={"workers": workers}), SIZE)
    tar = Path(str(settings.validation)) / "shards" / "00001.tar"
    tar.write_bytes(b"\0" * tar.stat().st_size)
    with pytest.raises(FsckitError, match=r"00001.tar: .* is no longer at the offset in its table"):
        validation(clip.model, 0)


def test_refuses_a_missing_data_set(clip: Clip, settings: Config, tmp_path: Path) -> None:
    nowhere = settings.model_copy(update={"validation": str(tmp_path / "nowhere")})
    with pytest.raises(FsckitError, match="nowhere"):
        ValidationScorer(clip, nowhere, SIZE)


def test_the_score_leaves_out_what_text_alone_decides(
    clip: Clip, settings: Config, samples: list, make_data
) -> None:
    """By default; the setting `score` chooses its parts, also such a style."""
    for sample in samples:
        sample.negatives["shuffle-2"] = sample.negatives["shape"]
    make_data(samples)
    recalls = ["image_to_text_recall@1", "text_to_image_recall@1"]
    default = ["choice/colour", "choice/shape", *recalls]
    for chosen in ([], ["choice/shuffle-2", recalls[1]]):
        scorer = ValidationScorer(clip, settings.model_copy(update={"score": tuple(chosen)}), SIZE)
        found = scorer(clip.model, 0)
        assert "choice/shuffle-2" in found
        parts = [found[name] for name in chosen or default]
        assert found["score"] == pytest.approx(sum(parts) / len(parts))
    message = "`score`: unknown score 'choice/svlc'; choose choice/colour, choice/shape, choice/sh"
    with pytest.raises(FsckitError, match=message):
        ValidationScorer(clip, settings.model_copy(update={"score": ("choice/svlc",)}), SIZE)
