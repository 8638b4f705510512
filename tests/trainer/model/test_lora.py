"""LoRA: which parameters train, what the model computes, and that merging changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import open_clip
import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from fscdata.base.errors import FsckitError
from fsctrain.model import OpenClip, create_model, encode_images, encode_texts
from fsctrain.model.lora import (
    ConvRank,
    apply_lora,
    base_state,
    load_lora_state,
    lora_state,
    lora_updates,
    merge_lora,
)

IMAGES = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
TOKENS = open_clip.SimpleTokenizer(context_length=16)(["a red horse", "a horse eating grass"])


@pytest.fixture(params=["default", "custom_text", "custom_blocks"])
def model(request: pytest.FixtureRequest, tiny_model: str, tmp_path: Path) -> OpenClip:
    """Two heads per tower: torch's fast attention path needs an even number."""
    config = json.loads(Path(tiny_model).read_text())
    config["vision_cfg"] |= {"head_width": 32, "layers": 2}
    if request.param == "custom_text":
        config["custom_text"] = True
    if request.param == "custom_blocks":
        for tower in ("vision_cfg", "text_cfg"):
            config[tower]["qk_norm"] = True
    path = tmp_path / "model.json"
    path.write_text(json.dumps(config))
    torch.manual_seed(0)
    return create_model(str(path), "none").model


@pytest.fixture
def adapted(model: OpenClip) -> OpenClip:
    """A model after some training: B is not zero."""
    apply_lora(model, 3, 1.5)
    for update in lora_updates(model).values():
        torch.nn.init.normal_(update.B, std=0.1)
    return model


def outputs(model: OpenClip) -> tuple[torch.Tensor, torch.Tensor]:
    return encode_images(model, IMAGES)[0], encode_texts(model, TOKENS)[0]


def gradients(model: OpenClip) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    images, texts = outputs(model)
    (images * texts).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def distance(one: OpenClip, expected: tuple[torch.Tensor, ...]) -> float:
    return max(
        float((a - b).detach().abs().max()) for a, b in zip(outputs(one), expected, strict=True)
    )


@pytest.mark.parametrize(
    ("conv", "conv_parameters"),
    [("rank", 4 * (3 * 32 * 32 + 768)), ("full", 4 * 32 * (3 * 32 + 768 * 32))],
)
def test_has_the_published_size(conv: ConvRank, conv_parameters: int) -> None:
    """ViT-B-32 at rank 4: 97 weights, 998,400 parameters, or 4.14 M with a full convolution."""
    config = open_clip.get_model_config("ViT-B-32")
    with torch.device("meta"):
        model = open_clip.CLIP(**config)
        apply_lora(model, 4, 1.0, conv)
    assert len(lora_updates(model)) == 97
    trained = [p for p in model.parameters() if p.requires_grad]
    assert len(trained) == 2 * 97
    update = lora_updates(model)["visual.conv1.weight"]
    assert update.A.numel() + update.B.numel() == conv_parameters
    total = sum(p.numel() for p in trained)
    assert total == {"rank": 998_400, "full": 4_141_056}[conv]


def test_a_full_convolution_update_is_loralibs(model: OpenClip) -> None:
    """Its Conv2d: the product [out·k, in·k] is read as the weight [out, in, k, k]."""
    weight = model.visual.conv1.weight.detach().clone()
    out, channels, k, _ = weight.shape
    apply_lora(model, 2, 3.0, "full")
    update = lora_updates(model)["visual.conv1.weight"]
    assert update.A.shape == (2 * k, channels * k) and update.B.shape == (out * k, 2 * k)
    torch.nn.init.normal_(update.B)
    expected = weight + 1.5 * (update.B @ update.A).view(weight.shape)
    torch.testing.assert_close(model.visual.conv1.weight, expected)
    change = (model.visual.conv1.weight - weight).detach().flatten(1)
    assert torch.linalg.matrix_rank(change) == min(change.shape) > 2


def test_updates_are_named_by_their_weights(model: OpenClip) -> None:
    names = set(model.state_dict())
    tower = "text.transformer" if hasattr(model, "text") else "transformer"
    apply_lora(model, 2, 1.0)
    parts = ("attn.in_proj_weight", "attn.out_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
    blocks = ["visual.transformer.resblocks.0", "visual.transformer.resblocks.1"]
    expected = {f"{block}.{part}" for block in [*blocks, f"{tower}.resblocks.0"] for part in parts}
    assert set(lora_updates(model)) == expected | {"visual.conv1.weight"}
    assert expected <= names and set(base_state(model)) == names
    assert {name.rsplit(".", 1)[0] for name in lora_state(model)} == set(lora_updates(model))


def test_untrained_updates_do_not_change_the_model(model: OpenClip) -> None:
    before = outputs(model)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    apply_lora(model, 4, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(outputs(model), before, strict=True))
    assert all(torch.equal(state[name], tensor) for name, tensor in base_state(model).items())
    first = lora_state(model)
    assert all(first[name].any() == name.endswith(".A") for name in first)


def test_an_update_adds_a_scaled_product(model: OpenClip) -> None:
    """W + alpha/rank·B·A, with a convolution's four dimensions flattened to two."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    apply_lora(model, 3, 1.5)
    for update in lora_updates(model).values():
        torch.nn.init.normal_(update.B)
    updates = lora_state(model)
    merge_lora(model)
    after = model.state_dict()
    for name, weight in before.items():
        expected = weight
        if f"{name}.A" in updates:
            product = updates[f"{name}.B"] @ updates[f"{name}.A"]
            expected = weight + (0.5 * product).view_as(weight)
            assert not torch.allclose(expected, weight)
        torch.testing.assert_close(after[name], expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("graph", [True, False])
def test_the_merged_model_computes_the_same(
    adapted: OpenClip, training: bool, graph: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In eval mode without gradients, nn.MultiheadAttention takes its fast path."""
    fast = []
    native = torch._native_multi_head_attention

    def counted(*words: object, **named: object) -> object:
        fast.append(1)
        return native(*words, **named)

    monkeypatch.setattr(torch, "_native_multi_head_attention", counted)
    adapted.train(training)
    with torch.set_grad_enabled(graph):
        expected = outputs(adapted)
    has_heads = any(isinstance(m, torch.nn.MultiheadAttention) for m in adapted.modules())
    assert bool(fast) == (has_heads and not training and not graph)
    names = set(base_state(adapted))
    merge_lora(adapted)
    assert set(adapted.state_dict()) == names
    assert not lora_updates(adapted)
    assert distance(adapted, expected) < 1e-6


def test_the_fast_path_includes_the_updates(adapted: OpenClip) -> None:
    adapted.eval()
    with torch.no_grad():
        images, texts = outputs(adapted)
        for update in lora_updates(adapted).values():
            update.B.zero_()
        assert distance(adapted, (images, texts)) > 1e-3


def test_only_the_updates_are_trained(adapted: OpenClip) -> None:
    found = gradients(adapted)
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert set(found) == trained and len(trained) == 2 * len(lora_updates(adapted))
    assert all(gradient.any() for gradient in found.values())
    assert not adapted.logit_scale.requires_grad


@pytest.mark.parametrize("model", ["default", "custom_text"], indirect=True)
def test_gradients_survive_checkpointing_and_bf16(adapted: OpenClip) -> None:
    plain = gradients(adapted)
    with torch.autocast("cpu", torch.bfloat16):
        rough = gradients(adapted)
    adapted.set_grad_checkpointing()
    checkpointed = gradients(adapted)
    assert plain.keys() == checkpointed.keys() == rough.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient)
        assert rough[name].dtype == torch.float32
        assert torch.cosine_similarity(rough[name].flatten(), gradient.flatten(), dim=0) > 0.97


def test_updates_stay_in_float32_under_autocast(adapted: OpenClip) -> None:
    """An update smaller than bfloat16's resolution is not lost."""
    weight = adapted.visual.conv1.weight
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(adapted.visual.conv1.weight, weight)


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/ranks", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Pair(torch.nn.Module):
    """Both towers in one forward pass, for DDP and the compiler to wrap."""

    def __init__(self, model: OpenClip) -> None:
        super().__init__()
        self.model = model

    def forward(self) -> torch.Tensor:
        images, texts = outputs(self.model)
        return (images * texts).sum()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["default"], indirect=True)
@pytest.mark.parametrize(
    "wrap",
    [
        DistributedDataParallel,
        pytest.param(lambda m: torch.compile(m, backend="aot_eager"), id="compile"),
    ],
)
def test_wrapped_models_have_the_same_gradients(
    adapted: OpenClip, one_rank: None, wrap: Callable[[torch.nn.Module], torch.nn.Module]
) -> None:
    expected = gradients(adapted)
    adapted.zero_grad(set_to_none=True)
    wrap(Pair(adapted))().backward()
    for name, parameter in adapted.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, expected[name])


def test_the_state_round_trips(adapted: OpenClip) -> None:
    state = {name: tensor.clone() for name, tensor in lora_state(adapted).items()}
    expected = outputs(adapted)
    for update in lora_updates(adapted).values():
        torch.nn.init.zeros_(update.A)
    load_lora_state(adapted, state)
    assert all(torch.equal(a, b) for a, b in zip(outputs(adapted), expected, strict=True))


@pytest.mark.parametrize("model", ["default"], indirect=True)
def test_a_state_that_does_not_fit_is_refused(adapted: OpenClip) -> None:
    state = {name: torch.zeros_like(tensor) for name, tensor in lora_state(adapted).items()}
    name = "visual.conv1.weight.B"
    for wrong, message in (
        ({**state, name: torch.zeros(64, 2)}, r"has shape \[64, 2\], expected \[64, 3\]"),
        ({k: v for k, v in state.items() if k != name}, f"{name} is missing"),
        ({**state, "visual.proj.A": state[name]}, "visual.proj.A is not part of this model"),
    ):
        with pytest.raises(FsckitError, match=message):
            load_lora_state(adapted, wrong)
    assert all(update.B.any() for update in lora_updates(adapted).values())


def test_a_resnet_is_refused(tiny_model: str) -> None:
    config = json.loads(Path(tiny_model).read_text())
    config["vision_cfg"] = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}
    model = open_clip.CLIP(**config)
    with pytest.raises(
        FsckitError, match=r"`lora_rank` 2: LoRA needs .* image tower is a ModifiedResNet"
    ):
        apply_lora(model, 2, 1.0)
    assert all(p.requires_grad for p in model.parameters())
