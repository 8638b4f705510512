"""Plain open_clip loads saved checkpoints and gives equal outputs."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import fscdata.base.files
from fsctrain.checkpoint import (
    loading_line,
    read_lora,
    save_checkpoint,
    weights_digest,
    weights_name,
)
from fsctrain.model import create_model
from fsctrain.model.lora import apply_lora, lora_state


def outputs(model) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 32, 32, generator=generator)
    tokens = open_clip.SimpleTokenizer(context_length=16)(["a horse", "grass eating a horse"])
    with torch.no_grad():
        return model.eval()(images, tokens)


@pytest.mark.parametrize("custom_text", [False, True])
@pytest.mark.parametrize("quick_gelu", [False, True])
def test_checkpoints_round_trip(
    quick_gelu: bool, custom_text: bool, tiny_model, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", [])
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", {})
    name = f"tiny-{quick_gelu}-{custom_text}"
    config = json.loads(Path(tiny_model).read_text())
    config |= {"quick_gelu": quick_gelu, "custom_text": custom_text}
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(config))
    clip = create_model(str(path), "none")
    weights = save_checkpoint(tmp_path / "checkpoint", clip)
    assert sorted(p.name for p in weights.parent.iterdir()) == [
        "open_clip_config.json",
        "open_clip_model.safetensors",
    ]
    expected = outputs(clip.model)

    open_clip.add_model_config(path)
    by_path = open_clip.create_model(name, pretrained=str(weights))
    by_folder = open_clip.create_model(f"local-dir:{weights.parent}")
    by_line = eval(loading_line(clip, weights))  # noqa: S307  # the line is what is tested
    # The trainer's own reader, from the checkpoint's config and weights.
    reread = create_model(str(weights.with_name("open_clip_config.json")), str(weights))
    assert reread.quick_gelu == quick_gelu
    for model in (by_path, by_folder, by_line, reread.model):
        assert all(torch.equal(a, b) for a, b in zip(outputs(model), expected, strict=True))
    preprocessing = [
        json.dumps(model.visual.preprocess_cfg, sort_keys=True) for model in (by_folder, clip.model)
    ]
    assert preprocessing[0] == preprocessing[1]


def test_the_activation_is_stored_with_the_weights(tiny_model: str, tmp_path: Path) -> None:
    """QuickGELU weights loaded with a configuration for GELU give a QuickGELU model."""
    config = json.loads(Path(tiny_model).read_text())
    path = tmp_path / "quick.json"
    path.write_text(json.dumps(config | {"quick_gelu": True}))
    clip = create_model(str(path), "none")
    weights = save_checkpoint(tmp_path / "checkpoint", clip)
    loaded = create_model(tiny_model, str(weights))
    assert loaded.quick_gelu
    assert torch.equal(outputs(loaded.model)[0], outputs(clip.model)[0])


def test_the_loading_line_requests_quick_gelu(tmp_path: Path, tiny_model: str, monkeypatch) -> None:
    """OpenAI's weights use QuickGELU, but the model's name implies GELU."""
    config = json.loads(Path(tiny_model).read_text())
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(config | {"quick_gelu": True}))
    clip = create_model(str(path), "none")
    object.__setattr__(clip, "name", "tiny")
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", {"tiny": config})
    weights = save_checkpoint(tmp_path / "it's here", clip)
    line = loading_line(clip, weights)
    assert "force_quick_gelu=True" in line
    loaded = eval(line)  # noqa: S307  # the line is what is tested
    assert torch.equal(outputs(loaded)[0], outputs(clip.model)[0])


def test_a_killed_save_leaves_no_checkpoint(tiny_model: str, tmp_path: Path, monkeypatch) -> None:
    """The next save removes what the killed one left."""
    clip = create_model(tiny_model, "none")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fscdata.base.files, "sync", killed)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path / "checkpoint", clip)
    assert not (tmp_path / "checkpoint").exists()
    save_checkpoint(tmp_path / "checkpoint", clip)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]


def test_weights_have_the_usual_file_mode(tiny_model: str, tmp_path: Path) -> None:
    usual = tmp_path / "usual"
    usual.touch()
    weights = save_checkpoint(tmp_path / "checkpoint", create_model(tiny_model, "none"))
    assert weights.stat().st_mode == usual.stat().st_mode


def test_equal_weights_give_equal_files(tiny_model: str, tmp_path: Path) -> None:
    """safetensors alone writes its metadata in random order."""
    clip = create_model(tiny_model, "none")
    paths = [save_checkpoint(tmp_path / str(i), clip, base_digest="ä\n") for i in range(8)]
    assert len({path.read_bytes() for path in paths}) == 1
    with safe_open(paths[0], "pt") as file:
        metadata = file.metadata()
    assert list(metadata) and metadata["base_digest"] == "ä\n" and metadata["format"] == "pt"
    state = load_file(paths[0])
    assert all(torch.equal(state[n], t) for n, t in clip.model.state_dict().items())


@pytest.mark.parametrize("pretrained", ["none", "base"])
def test_a_lora_checkpoint_stores_updates_and_records_its_base(
    pretrained: str, tiny_model: str, tmp_path: Path, monkeypatch
) -> None:
    """It has kilobytes for a model of megabytes."""
    clip = create_model(tiny_model, "none")
    base = save_checkpoint(tmp_path / "base", clip)
    monkeypatch.chdir(base.parent)
    given = base.name if pretrained == "base" else "none"
    digest = weights_digest(clip.model.state_dict())
    apply_lora(clip.model, 2, 1.5)
    with pytest.raises(
        ValueError, match="`pretrained` is missing: a LoRA checkpoint records its base"
    ):
        save_checkpoint(tmp_path / "lora", clip)
    weights = save_checkpoint(tmp_path / "lora", clip, pretrained=given, seed=3)
    assert weights == tmp_path / "lora" / weights_name(clip)
    assert sorted(p.name for p in weights.parent.iterdir()) == [
        "lora.safetensors",
        "lora_config.json",
        "open_clip_config.json",
    ]
    assert 50 * weights.stat().st_size < base.stat().st_size
    config, state = read_lora(weights.parent)
    assert config.model_dump() == {
        "rank": 2,
        "alpha": 1.5,
        "conv": "rank",
        "model": tiny_model,
        "pretrained": str(base) if pretrained == "base" else "none",
        "seed": 3,
        "base_digest": digest,
    }
    with safe_open(weights, "pt") as file:
        metadata = file.metadata()
    assert metadata["base_digest"] == digest and metadata["rank"] == "2"
    assert json.loads(metadata["model_cfg"]) == clip.model_cfg
    assert all(torch.equal(t, state[name]) for name, t in lora_state(clip.model).items())
    assert loading_line(clip, weights) == f"fsctrain merge {weights.parent}"


def test_the_digest_depends_on_names_types_shapes_and_bits() -> None:
    weights = {"a": torch.tensor([[0.0, 1.0]]), "b": torch.tensor(2)}
    others = [
        {**weights, "a": torch.tensor([[-0.0, 1.0]])},
        {**weights, "a": torch.tensor([0.0, 1.0])},
        {**weights, "a": torch.tensor([[0.0, 1.0]]).view(torch.int32)},
        {**weights, "b": torch.tensor(3)},
        {"a": weights["a"], "c": weights["b"]},
        {"a": weights["a"]},
    ]
    assert len({weights_digest(state) for state in (weights, *others)}) == 1 + len(others)
    assert weights_digest(dict(reversed(weights.items()))) == weights_digest(weights)
