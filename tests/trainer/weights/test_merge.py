"""Merging a LoRA checkpoint gives the trained model, and accepts only the right base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from fscdata.base.errors import FsckitError
from fsctrain.model.lora import lora_state, merge_lora
from fsctrain.weights import merge


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(t, other[n]) for n, t in one.items())


@pytest.mark.parametrize("conv", ["rank", "full"])
def test_random_base_weights_are_recreated_from_their_seed(conv, lora_config, make_run) -> None:
    run, clip = make_run(lora_config.model_copy(update={"lora_conv": conv}))
    generator = torch.random.get_rng_state()
    weights, line = merge(run)
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert weights == run / "merged" / "open_clip_model.safetensors"
    merge_lora(clip.model)
    assert same(load_file(weights), clip.model.state_dict())
    loaded = eval(line)  # noqa: S307  # the line is what is tested
    assert same(loaded.state_dict(), clip.model.state_dict())
    assert type(loaded.visual.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"


def test_finds_base_weights_in_a_file(
    lora_config, make_run, pretrained: Path, tmp_path, monkeypatch
) -> None:
    """The path is recorded as absolute: merge may run in another folder."""
    monkeypatch.chdir(pretrained.parent)
    config = lora_config.model_copy(update={"pretrained": pretrained.name})
    run, clip = make_run(config)
    monkeypatch.chdir(tmp_path)
    merge_lora(clip.model)
    assert same(load_file(merge(run / "checkpoint")[0]), clip.model.state_dict())

    moved = tmp_path / "moved.safetensors"
    shutil.move(pretrained, moved)
    with pytest.raises(FsckitError, match=f"`pretrained` {pretrained}: not a tag of model"):
        merge(run, tmp_path / "again")
    weights, _ = merge(run, tmp_path / "again", str(moved))
    assert same(load_file(weights), clip.model.state_dict())


def test_a_tag_determines_the_activation(
    lora_config, make_run, pretrained: Path, tmp_path, monkeypatch
) -> None:
    """The tag implies QuickGELU although the name implies GELU, here and in the loading line."""
    model_cfg = json.loads(Path(lora_config.model).read_text()) | {"quick_gelu": False}
    monkeypatch.setattr("open_clip.factory._MODEL_CONFIGS", {"ViT-B-32": model_cfg})
    plain = tmp_path / "openai.pt"
    torch.save(load_file(pretrained), plain)
    monkeypatch.setattr("fsctrain.model.create.download_pretrained", lambda tag: str(plain))
    run, clip = make_run(
        lora_config.model_copy(update={"model": "ViT-B-32", "pretrained": "openai"})
    )
    weights, line = merge(run)
    merge_lora(clip.model)
    assert same(load_file(weights), clip.model.state_dict())
    assert line == (
        f"open_clip.create_model('ViT-B-32', pretrained='{weights}', force_quick_gelu=True)"
    )
    # The same weights by path: the checkpoint determines the activation.
    again, _ = merge(run, tmp_path / "again", str(plain))
    config = json.loads((again.parent / "open_clip_config.json").read_text())
    assert config["model_cfg"]["quick_gelu"] is True


def test_a_wrong_base_is_refused(lora_config, make_run, pretrained: Path) -> None:
    run, _ = make_run(lora_config)
    with pytest.raises(
        FsckitError, match=r"not trained on the weights .* `pretrained` weights"
    ) as error:
        merge(run, None, str(pretrained))
    assert "\n" not in str(error.value)
    record = run / "checkpoint" / "lora_config.json"
    record.write_text(record.read_text().replace('"seed": 7', '"seed": 8'))
    with pytest.raises(FsckitError, match=r"not trained on the weights 'none' of "):
        merge(run)
    assert not (run / "merged").exists()


def test_nothing_is_overwritten(lora_config, make_run, tmp_path: Path) -> None:
    run, _ = make_run(lora_config)
    (tmp_path / "out").mkdir()
    with pytest.raises(FsckitError, match="already exists; choose another `out`"):
        merge(run, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_other_folders_are_refused(small_config, make_run, tmp_path: Path) -> None:
    run, _ = make_run(small_config)
    with pytest.raises(FsckitError, match="not a LoRA checkpoint; open_clip loads it directly"):
        merge(run)
    with pytest.raises(FsckitError, match=r"neither a run folder .* nor a checkpoint folder"):
        merge(tmp_path / "nowhere")
    shutil.rmtree(run / "checkpoint")
    with pytest.raises(FsckitError, match="this run has no checkpoint/ yet; wait for it to finish"):
        merge(run)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("lora_config.json", b"{", "not a LoRA checkpoint \\("),
        ("lora_config.json", b'{"rank": 0}', "not a LoRA checkpoint \\(rank: "),
        ("lora.safetensors", b"weights", "not a safetensors file"),
        ("lora.safetensors", None, "lora.safetensors: not a safetensors file"),
    ],
)
def test_damaged_files_are_refused(name, content, message, lora_config, make_run) -> None:
    run, _ = make_run(lora_config)
    path = run / "checkpoint" / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(FsckitError, match=message) as error:
        merge(run)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_matrices_that_do_not_fit_are_refused(lora_config, make_run) -> None:
    run, clip = make_run(lora_config)
    path = run / "checkpoint" / "lora.safetensors"
    record = path.with_name("lora_config.json")
    record.write_text(record.read_text().replace('"rank": 2', '"rank": 1000000000000'))
    with pytest.raises(FsckitError, match="expected matrices of rank 1000000000000"):
        merge(run)
    record.write_text(record.read_text().replace('"rank": 1000000000000', '"rank": 2'))
    state = {name: t for name, t in lora_state(clip.model).items() if "conv1" not in name}
    save_file(state, path)
    with pytest.raises(FsckitError, match=r"visual.conv1.weight.A is missing"):
        merge(run)


def test_open_clip_does_not_load_a_lora_checkpoint(lora_config, make_run) -> None:
    run, _ = make_run(lora_config)
    with pytest.raises(RuntimeError, match="Missing key"):
        open_clip.create_model(f"local-dir:{run / 'checkpoint'}")
