"""Compares the encoders with open_clip's own, on every kind of tower."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fscdata.base.errors import FsckitError
from fsctrain.model import (
    Clip,
    check_towers,
    create_model,
    embed_images,
    embed_texts,
    encode_images,
    encode_texts,
    end_positions,
    get_tokenizer,
)

TEXTS = ["a horse", "a brown horse eating grass beside two small dogs", "x", "grass, eating"]


@pytest.fixture
def make_clip(tiny_model: str, tmp_path: Path):
    def make(text: dict[str, Any] | None = None, **changes: Any) -> Clip:
        config = json.loads(Path(tiny_model).read_text())
        config["text_cfg"] |= text or {}
        path = tmp_path / "model.json"
        path.write_text(json.dumps(config | changes))
        torch.manual_seed(0)
        return create_model(str(path), "none")

    return make


def random_images(clip: Clip, count: int = 3) -> Tensor:
    size = clip.model.visual.image_size
    size = (size, size) if isinstance(size, int) else size
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)


def normalised(clip: Clip, images: Tensor) -> Tensor:
    mean, std = (torch.tensor(clip.preprocess_cfg[k]).view(3, 1, 1) for k in ("mean", "std"))
    return (images / 255 - mean) / std


KINDS = {
    "CLIP": {},
    "CLIP, QuickGELU": {"quick_gelu": True},
    "CustomTextCLIP": {"custom_text": True},
    "projection with bias": {"custom_text": True, "text": {"proj_bias": True}},
    "end token by id": {"text": {"pool_type": "eos", "eos_id": 49407}},
    "normalised queries": {"text": {"qk_norm": True}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_texts_have_the_features_of_padded_texts(kind: str, make_clip) -> None:
    clip = make_clip(**KINDS[kind])
    check_towers(clip.model, clip.name, local=True)
    padded = get_tokenizer(clip)(TEXTS)
    assert padded.shape[1] == 16
    longest = int(end_positions(clip.model, padded).max()) + 1
    assert longest < 16
    expected = clip.model.encode_text(padded, normalize=True)
    all_features, all_tokens = encode_texts(clip.model, padded, local=True)
    features, tokens = encode_texts(clip.model, padded[:, :longest], local=True)
    torch.testing.assert_close(all_features, expected)
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(tokens, all_tokens[:, :longest])
    assert encode_texts(clip.model, padded)[1] is None
    # The end token's output is the text's feature before normalization.
    ends = tokens[torch.arange(len(TEXTS)), end_positions(clip.model, padded)]
    torch.testing.assert_close(F.normalize(ends, dim=1), features)


@pytest.mark.parametrize("pool", ["tok", "avg"])
@pytest.mark.parametrize("after", [False, True])
def test_image_features_and_patches_match_open_clip(
    pool: str, after: bool, make_clip, tiny_model: str
) -> None:
    vision = json.loads(Path(tiny_model).read_text())["vision_cfg"]
    vision |= {"pool_type": pool, "final_ln_after_pool": after}
    clip = make_clip(vision_cfg=vision)
    images = random_images(clip)
    expected = clip.model.encode_image(normalised(clip, images), normalize=True)
    plain, none = encode_images(clip.model, images)
    features, patches = encode_images(clip.model, images, local=True)
    assert none is None
    torch.testing.assert_close(plain, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    visual = clip.model.visual
    x = visual.transformer(visual._embeds(normalised(clip, images)))
    torch.testing.assert_close(
        patches, visual.ln_post(x)[:, 1:] @ visual.proj, rtol=1e-4, atol=1e-5
    )


def test_gradients_reach_both_towers(make_clip) -> None:
    clip = make_clip()
    features, patches = encode_images(clip.model, random_images(clip), local=True)
    texts, words = encode_texts(clip.model, get_tokenizer(clip)(TEXTS), local=True)
    (features.sum() + patches.sum() + texts.sum() + words.sum()).backward()
    without = {n for n, p in clip.model.named_parameters() if p.grad is None}
    assert without == {"logit_scale"}


def test_embedding_does_not_depend_on_the_batch_size(make_clip) -> None:
    clip = make_clip()
    tokens, images = get_tokenizer(clip)(TEXTS), random_images(clip)
    torch.testing.assert_close(
        embed_texts(clip.model, tokens, batch_size=3), encode_texts(clip.model, tokens)[0].detach()
    )
    torch.testing.assert_close(
        embed_images(clip.model, images, batch_size=2),
        encode_images(clip.model, images)[0].detach(),
    )


def test_towers_without_patches_train_without_the_local_loss(make_clip) -> None:
    """A ResNet and a timm tower refuse only the local loss."""
    resnet = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8}
    timm = {"timm_model_name": "test_vit", "timm_pool": "token", "image_size": 160}
    for vision, tower in ((resnet, "ModifiedResNet"), (timm, "TimmModel")):
        clip = make_clip(vision_cfg=vision)
        check_towers(clip.model, clip.name, local=False)
        assert encode_images(clip.model, random_images(clip))[0].shape == (3, 32)
        with pytest.raises(FsckitError, match=rf"model.json.*{tower}.*set `local_weight` to 0"):
            check_towers(clip.model, clip.name, local=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"custom_text": True, "text": {"no_causal_mask": True}},
        {"text": {"pool_type": "last"}},
    ],
)
def test_non_causal_text_towers_are_refused(changes: dict[str, Any], make_clip) -> None:
    clip = make_clip(**changes)
    with pytest.raises(FsckitError, match=r"model.json: fsctrain needs a causal text tower"):
        check_towers(clip.model, clip.name, local=False)


def test_a_text_class_embedding_is_refused(make_clip) -> None:
    clip = make_clip(custom_text=True, text={"embed_cls": True})
    with pytest.raises(FsckitError, match="without a class embedding"):
        check_towers(clip.model, clip.name, local=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init_logit_bias": -10.0}, "no fsctrain loss uses its logit bias"),
        (
            {"init_logit_bias": -10.0, "custom_text": True},
            "no fsctrain loss uses its logit bias",
        ),
        ({"text": {"scaled_cosine_attn": True}}, "cannot compute its scaled cosine attention"),
        (
            {
                "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 64, "layers": 1}
                | {"scaled_cosine_attn": True}
            },
            "cannot compute its scaled cosine attention",
        ),
    ],
)
def test_unsupported_parts_are_refused(changes: dict[str, Any], message: str, make_clip) -> None:
    clip = make_clip(**changes)
    with pytest.raises(FsckitError, match=rf"model.json: .*{message}"):
        check_towers(clip.model, clip.name, local=False)


def test_other_text_towers_are_refused() -> None:
    for name in ("roberta-ViT-B-32", "coca_ViT-B-32"):
        with pytest.raises(FsckitError, match=f"model {name}: fsctrain supports only"):
            create_model(name, "none")


def test_bf16_is_near_fp32(make_clip) -> None:
    clip = make_clip()
    tokens, images = get_tokenizer(clip)(TEXTS), random_images(clip)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        found = [*encode_images(clip.model, images, local=True), *encode_texts(clip.model, tokens)]
    assert {t.dtype for t in found if t is not None} == {torch.float32}
    torch.testing.assert_close(found[0], embed_images(clip.model, images), atol=2e-2, rtol=0)
    torch.testing.assert_close(found[2], embed_texts(clip.model, tokens), atol=2e-2, rtol=0)


def test_open_clips_registry_is_unchanged(make_clip) -> None:
    before = open_clip.list_models()
    clip = make_clip()
    assert open_clip.list_models() == before and not clip.builtin
