"""WiSE-FT: exact end points, the mean between them, and folders that open_clip loads."""

from __future__ import annotations

import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from fscdata.base.errors import FsckitError
from fsctrain.model import create_model
from fsctrain.model.lora import base_state, merge_lora
from fsctrain.weights import interpolate
from fsctrain.weights.interpolate import mix, parse_alphas

WEIGHTS = "open_clip_model.safetensors"


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()


def same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(bits(t) == bits(other[n]) for n, t in one.items())


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0.5", [0.5]),
        ("1", [1.0]),
        ("0.3, 0.5,0.50", [0.3, 0.5]),
        ("0:1:0.1", [i / 10 for i in range(11)]),
        ("0.2:0.7:0.25", [0.2, 0.45, 0.7]),
        ("0:1:0.3", [0.0, 0.3, 0.6, 0.9]),
        ("-0", [0.0]),
    ],
)
def test_parses_alphas(text: str, numbers: list[float]) -> None:
    assert [float(alpha) for alpha in parse_alphas(text)] == numbers


@pytest.mark.parametrize(
    "text",
    ["", "half", "1.1", "-0.1", "nan", "inf", "0:1", "0:1:0", "1:0:0.1", "0.12345", "0:1:1e-9999"],
)
def test_invalid_alphas_are_refused(text: str) -> None:
    with pytest.raises(
        FsckitError,
        match=f"`alphas` {text}: expected a number, a comma-separated list, or start:stop:step",
    ):
        parse_alphas(text)


def test_mixes_floats_and_keeps_integers() -> None:
    before = {"w": torch.tensor([-0.0, 1.0]), "n": torch.tensor(3)}
    tuned = {"w": torch.tensor([1.0, -0.0]), "n": torch.tensor(5)}
    assert same_bits(mix(before, tuned, 0), before)
    assert same_bits(mix(before, tuned, 1), tuned)
    assert mix(before, tuned, 0.25)["w"].tolist() == [0.25, 0.75]
    assert mix(before, tuned, 0.25)["n"] == 5
    halves = [{"w": torch.tensor([2049.0, 1.0]).half()}, {"w": torch.tensor([4097.0, 3.0]).half()}]
    mixed = mix(*halves, 0.3)["w"]
    expected = (0.7 * halves[0]["w"].float() + 0.3 * halves[1]["w"].float()).half()
    assert mixed.dtype == torch.float16 and torch.equal(mixed, expected)


@pytest.mark.parametrize("lora", [False, True])
def test_writes_a_checkpoint_for_each_alpha(
    lora: bool, small_config, lora_config, make_run
) -> None:
    run, clip = make_run(lora_config if lora else small_config)
    torch.manual_seed(7)
    before = create_model(small_config.model, "none").model.state_dict()
    if lora:
        assert same_bits(base_state(clip.model), before)
        merge_lora(clip.model)
    after = clip.model.state_dict()
    folders = interpolate(run, "0:1:0.5")
    names = ["alpha-0.00", "alpha-0.50", "alpha-1.00"]
    assert folders == [run / "interpolated" / name for name in names]
    states = [load_file(folder / WEIGHTS) for folder in folders]
    assert same_bits(states[0], before) and same_bits(states[2], after)
    for name, middle in states[1].items():
        assert torch.equal(middle, 0.5 * before[name] + 0.5 * after[name])
    loaded = open_clip.create_model(f"local-dir:{folders[1]}")
    assert same_bits(loaded.state_dict(), states[1])
    assert type(loaded.visual.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"
    with safe_open(folders[1] / WEIGHTS, "pt") as file:
        assert file.metadata()["wise_ft_alpha"] == "0.5"


def test_finds_pretrained_weights_in_a_file(small_config, make_run, pretrained, tmp_path) -> None:
    run, _ = make_run(small_config.model_copy(update={"pretrained": str(pretrained)}))
    (first,) = interpolate(run, "0", tmp_path / "a")
    assert same_bits(load_file(first / WEIGHTS), load_file(pretrained))
    # A checkpoint outside its run does not know its pretrained weights.
    alone = shutil.copytree(run / "checkpoint", tmp_path / "far" / "away" / "alone")
    with pytest.raises(FsckitError, match=r"its run's config.yaml is missing.*as `pretrained`"):
        interpolate(alone, "0", tmp_path / "b")
    (second,) = interpolate(alone, "0", tmp_path / "b", str(pretrained))
    assert same_bits(load_file(second / WEIGHTS), load_file(pretrained))


def test_weights_with_another_activation_are_refused(
    small_config, make_run, pretrained, tmp_path
) -> None:
    """Weights for QuickGELU and for GELU cannot be mixed."""
    plain = tmp_path / "plain.json"
    plain.write_text(Path(small_config.model).read_text().replace("true", "false"))
    run, _ = make_run(small_config.model_copy(update={"model": str(plain)}))
    with pytest.raises(
        FsckitError, match=r"another model; pass the ones it was fine-tuned from as `pretrained`"
    ):
        interpolate(run, "0.5", pretrained=str(pretrained))
    assert not (run / "interpolated").exists()


def test_a_damaged_weights_file_is_refused(small_config, make_run) -> None:
    run, _ = make_run(small_config)
    path = run / "checkpoint" / WEIGHTS
    path.write_bytes(b"weights")
    with pytest.raises(FsckitError, match=f"{path}: not a safetensors file"):
        interpolate(run, "0.5")


def test_refuses_existing_folders_and_interpolated_weights(
    small_config, make_run, tmp_path: Path
) -> None:
    run, _ = make_run(small_config)
    (tmp_path / "out" / "alpha-0.50").mkdir(parents=True)
    with pytest.raises(FsckitError, match=r"alpha-0.50: already exists"):
        interpolate(run, "0,0.5", tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["alpha-0.50"]
    (done,) = interpolate(run, "0.125")
    assert done.name == "alpha-0.125"
    with pytest.raises(FsckitError, match="already interpolated"):
        interpolate(done, "0.5", tmp_path / "more")
