"""`fsctrain merge`, `interpolate` and `export` on runs made by `fsctrain run`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fsctrain.checkpoint import save_checkpoint
from fsctrain.config import Config
from fsctrain.model import OpenClip, create_model, encode_images
from fsctrain.train import train
from fsctrain.weights import merge
from support.commands import command
from support.hf_hub import Hub

WEIGHTS = "open_clip_model.safetensors"


@pytest.fixture
def run_words(config: Config, tiny_model: str) -> list[object]:
    return [
        *("run", "--recipe", "fsc-clip", "--data", config.data[0], "--styles", "colour,shape"),
        *("--model", tiny_model, "--pretrained", "none", "--steps", 3, "--batch-size", 4),
        *("--workers", 0, "--out", config.out, "--log-every", 2, "--device", "cpu"),
        *("--lora-rank", 2, "--lr", "1e-3", "--warmup", 0, "--seed", 5),
    ]


@pytest.mark.slow
def test_a_run_is_merged_interpolated_and_exported(
    run_words: list[object], config: Config, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert command(*run_words) == 0
    run = config.out / "fsc-clip"
    checkpoint = run / "checkpoint"
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"checkpoint: {checkpoint / 'lora.safetensors'}",
        f"load it with: fsctrain merge {checkpoint}",
    ]
    assert sum(path.stat().st_size for path in checkpoint.iterdir()) < 100_000

    assert command("merge", run) == 0
    merged = run / "merged"
    assert capsys.readouterr().out.splitlines() == [
        f"checkpoint: {merged / WEIGHTS}",
        f"load it with: open_clip.create_model('local-dir:{merged}')",
    ]

    assert command("interpolate", run, "--alpha", "0:1:0.5", "--out", tmp_path / "between") == 0
    folders = [tmp_path / "between" / f"alpha-{alpha}" for alpha in ("0.00", "0.50", "1.00")]
    assert capsys.readouterr().out.splitlines() == [f"checkpoint: {f}" for f in folders]
    before, _, after = (load_file(folder / WEIGHTS) for folder in folders)
    assert all(torch.equal(t, after[name]) for name, t in load_file(merged / WEIGHTS).items())
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert len(changed) == 9 and "logit_scale" not in changed

    with Hub() as hub:
        words = ["export", run, "--out", tmp_path / "out", "--push", "owner/name"]
        environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_of_a_test"}
        done = subprocess.run(
            [sys.executable, "-m", "fsctrain", *map(str, words)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "open_clip.create_model('hf-hub:owner/name')" in done.stdout
        assert (
            f"fill in the licence in its model card: {tmp_path / 'out' / 'README.md'}"
            in done.stdout
        )
        assert hub.files[WEIGHTS] == (tmp_path / "out" / WEIGHTS).read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["merge", "nowhere"], "nowhere: neither a run folder (config.yaml, checkpoint/) nor a "),
        (
            ["interpolate", "nowhere", "--alpha", "2"],
            "--alpha 2: expected a number, a comma-separated list, or start:stop:step",
        ),
        (["export", "nowhere", "--out", "x", "--push", "x"], "--push x: expected OWNER/NAME"),
        (
            ["export", "nowhere", "--out", "x", "--private"],
            "--private needs a repository to upload to; set one with --push",
        ),
    ],
)
def test_errors_are_one_line(words: list[str], message: str, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(*words) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"fsctrain: {message}") and captured.err.count("\n") == 1
    assert captured.out == "" and not list(tmp_path.iterdir())


def test_changed_pretrained_weights_are_refused(config: Config, tmp_path: Path, capsys) -> None:
    base = tmp_path / "base.safetensors"
    for seed in (0, 1):
        torch.manual_seed(seed)
        weights = save_checkpoint(tmp_path / str(seed), create_model(config.model, "none"))
        base.write_bytes(weights.read_bytes())
        if seed == 0:
            run = train(config.model_copy(update={"pretrained": str(base)})).folder
    assert command("interpolate", run, "--alpha", "0.5") == 1
    message = capsys.readouterr().err
    assert "not fine-tuned from these pretrained weights; pass the right ones" in message
    assert message.endswith("as --pretrained\n")
    right = tmp_path / "0" / WEIGHTS
    assert command("interpolate", run, "--alpha", "0.5", "--pretrained", right) == 0


def test_the_merged_model_equals_the_trained_one(config: Config, tmp_path: Path) -> None:
    """LoRA freezes the logit scale even outside the range that full fine-tuning clamps it to."""
    clip = create_model(config.model, "none")
    with torch.no_grad():
        clip.model.logit_scale.fill_(5.0)
    base = save_checkpoint(tmp_path / "base", clip)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    encoded = []

    def evaluate(model: OpenClip, step: int) -> dict[str, float]:
        encoded.append(encode_images(model, images)[0])
        return {}

    lora = {"lora_rank": 2, "pretrained": str(base)}
    run = train(config.model_copy(update=lora), evaluate=evaluate).folder
    merged = create_model(config.model, str(merge(run)[0])).model.eval()
    torch.testing.assert_close(encode_images(merged, images)[0], encoded[-1], atol=1e-6, rtol=0)
    assert not torch.allclose(encode_images(clip.model.eval(), images)[0], encoded[-1], atol=1e-4)
    assert merged.logit_scale == 5.0
