"""Which parameters are frozen, and that the rest still learns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fscdata.base.errors import FsckitError
from fsctrain.model import OpenClip, create_model
from fsctrain.model.freeze import freeze

VIT = {"image_size": 32, "patch_size": 16, "width": 64, "layers": 3}
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}
TEXT = {"context_length": 16, "vocab_size": 99, "width": 32, "heads": 2, "layers": 2}
BELOW = ("conv1.weight", "class_embedding", "positional_embedding", "ln_pre.weight", "ln_pre.bias")


def make_model(folder: Path, vision: dict = VIT, **more: object) -> OpenClip:
    config = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": TEXT, **more}
    path = folder / "model.json"
    path.write_text(json.dumps(config))
    return create_model(str(path), "none").model


def frozen(model: OpenClip) -> set[str]:
    return {name for name, p in model.named_parameters() if not p.requires_grad}


@pytest.mark.parametrize("custom_text", [False, True])
@pytest.mark.parametrize(
    ("image", "text"), [(0, 0), (1, 0), (0, 1), (3, 2), ("all", 1), (2, "all")]
)
def test_freezes_the_lowest_blocks_and_everything_below(
    image: int | str, text: int | str, custom_text: bool, tmp_path: Path
) -> None:
    model = make_model(tmp_path, custom_text=custom_text)
    freeze(model, image, text)
    names = [name for name, _ in model.named_parameters()]
    prefix = "text." if custom_text else ""
    expected = set()
    if image:
        blocks = range(3 if image == "all" else image)
        starts = tuple(f"visual.transformer.resblocks.{i}." for i in blocks)
        expected |= {f"visual.{name}" for name in BELOW}
        expected |= {name for name in names if name.startswith(starts)}
    if image == "all":
        expected |= {"visual.ln_post.weight", "visual.ln_post.bias", "visual.proj"}
    if text:
        blocks = range(2 if text == "all" else text)
        starts = tuple(f"{prefix}transformer.resblocks.{i}." for i in blocks)
        expected |= {f"{prefix}token_embedding.weight", f"{prefix}positional_embedding"}
        expected |= {name for name in names if name.startswith(starts)}
    if text == "all":
        expected |= {
            f"{prefix}{n}" for n in ("ln_final.weight", "ln_final.bias", "text_projection")
        }
    assert expected <= set(names) and frozen(model) == expected


def test_gradients_reach_the_remaining_parameters(tmp_path: Path) -> None:
    model = make_model(tmp_path)
    freeze(model, 1, 1)
    images, texts, _ = model(torch.rand(2, 3, 32, 32), torch.randint(1, 99, (2, 16)))
    (images @ texts.T).sum().backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == frozen(model) | {"logit_scale"}


def test_a_frozen_resnet_does_not_change(tmp_path: Path) -> None:
    """It freezes only as a whole, with batch norm statistics, and its checkpoint still loads."""
    model = make_model(tmp_path, RESNET)
    with pytest.raises(FsckitError, match=r"`freeze_image` 1: .*ModifiedResNet.* set 0 or all"):
        freeze(model, 1, 0)
    freeze(model, "all", 0)
    assert frozen(model) >= {n for n, _ in model.named_parameters() if n.startswith("visual.")}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    model.encode_image(torch.rand(2, 3, 32, 32))
    after = model.state_dict()
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    make_model(tmp_path, RESNET).load_state_dict(dict(after))


def test_impossible_settings_are_refused(tmp_path: Path) -> None:
    model = make_model(tmp_path)
    for image, text, message in (
        (4, 0, "`freeze_image` 4: this tower has only 3 blocks"),
        (0, 3, "`freeze_text` 3: this tower has only 2 blocks"),
        ("all", "all", "`freeze_image` all and `freeze_text` all leave nothing to train"),
    ):
        with pytest.raises(FsckitError, match=message):
            freeze(model, image, text)
    assert not frozen(model)
