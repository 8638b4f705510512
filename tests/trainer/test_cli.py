"""The command: its flags, its words, its exit status."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer.main

import fsctrain
import fsctrain.train
from fsctrain.cli import app
from fsctrain.config import Config
from support.commands import command


@pytest.fixture
def run_words(config: Config, tiny_model: str) -> list[object]:
    return [
        *("run", "--recipe", "fsc-clip", "--data", config.data[0], "--styles", "colour,shape"),
        *("--model", tiny_model, "--pretrained", "none", "--steps", 3, "--batch-size", 4),
        *("--workers", 0, "--out", config.out, "--log-every", 2, "--device", "cpu"),
        *("--warmup", 1),
    ]


def test_a_flag_for_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    run = typer.main.get_command(app).commands["run"]
    flags = {option for parameter in run.params for option in parameter.opts}
    settings = {f"--{name.replace('_', '-')}" for name in Config.model_fields}
    assert flags - {"--help", "--resume"} == settings
    assert command("run", "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    for field in Config.model_fields.values():
        first_words = " ".join(field.description.split()[:3])
        assert first_words in text
    assert "[0.9,0.98]" in text and "[5e-06]" in text


def test_a_run(run_words, capsys: pytest.CaptureFixture[str], config: Config) -> None:
    assert command(*run_words) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert (
        "GELU, weights: none); 12 captions, 3 steps of 4; captions with a negative: colour 66.7%"
        in lines[1]
    )
    assert lines[0] == f"checking 3 tars of {config.data[0]}"
    assert re.match(r"step 2/3 epoch 0 loss \d", lines[3])
    assert re.match(r"step 3/3 epoch 0 loss \d", lines[4])
    weights = config.out / "fsc-clip" / "checkpoint" / "open_clip_model.safetensors"
    assert lines[5] == f"checkpoint: {weights}"
    assert lines[6] == f"load it with: open_clip.create_model('local-dir:{weights.parent}')"
    assert weights.is_file() and len(lines) == 7
    assert command(*run_words) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(
        f"fsctrain: {config.out / 'fsc-clip'}: there is a run of this name"
    )
    assert captured.err.count("\n") == 1


def test_settings_overrule_the_recipe(run_words, config: Config) -> None:
    assert command(*run_words, "--local-weight", 0, "--lr", "1e-3", "--name", "x") == 0
    text = (config.out / "x" / "config.yaml").read_text()
    assert "local_weight: 0.0\n" in text and "global_weight: 0.5\n" in text
    assert "lr: 0.001\n" in text and "recipe: fsc-clip\n" in text
    assert text.startswith(
        f"# fsctrain run --recipe {config.out / 'x' / 'config.yaml'} --name NAME"
    )
    assert command("run", "--recipe", config.out / "x" / "config.yaml", "--name", "y") == 0
    assert (config.out / "y" / "checkpoint").is_dir()


def test_bad_pictures_are_reported(run_words, make_data, samples, capsys) -> None:
    samples[2].image = b"<html>"
    make_data(samples)
    assert command(*run_words) == 0
    assert "bad pictures, replaced by others: not an image: 1; see " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "--recipe is missing (there are: clip, clip-cc3m-100k, "),
        (["run", "--recipe", "nope"], "--recipe nope: no such recipe (there are: clip, clip-cc3m"),
        (["run", "--recipe", "clip"], "--data is missing"),
        (["run", "--recipe", "clip", "--data", "x", "--lr", "0"], "--lr 0: input should be"),
        (["recipes", "nope"], "--recipe nope: no such recipe (there are: clip, clip-cc3m"),
    ],
)
def test_mistakes(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*words) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"fsctrain: {said}") and captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize("full", [False, True])
def test_a_place_that_cannot_be_written(
    full: bool, run_words, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that cannot be made, and a disk that is full when the weights are written."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if full:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        said = "too large"
    else:
        (tmp_path / "file").touch()
        run_words += ["--out", tmp_path / "file"]
        said = f"{tmp_path / 'file'}: File exists"
    try:
        assert command(*run_words) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    captured = capsys.readouterr()
    assert captured.err.startswith("fsctrain: ") and captured.err.count("\n") == 1
    assert said in captured.err


def test_schedules_longer_than_the_run(run_words, capsys: pytest.CaptureFixture[str]) -> None:
    """An epoch of 12 captions is 3 steps, which is known once the data is."""
    run_words += ["--steps", "none", "--epochs", 1]
    cooldown = ("--schedule", "cooldown", "--cooldown", 3)
    assert command(*run_words, *cooldown) == 1
    said = "--warmup 1 and --cooldown 3 are more than the run's 3 steps; shorten them"
    assert capsys.readouterr().err == f"fsctrain: {said}\n"
    assert command(*run_words, *cooldown, "--warmup", 0, "--name", "short") == 0
    assert "--warmup" not in capsys.readouterr().out
    assert command(*run_words, "--warmup", 4, "--name", "warm") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "--warmup 4 is longer than the run of 3 steps" in out


def test_out_of_memory(run_words, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def fails(error: Exception):
        def train(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(fsctrain.train, "train", train)

    fails(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore"))
    assert command(*run_words) == 1
    said = capsys.readouterr().err
    assert said.startswith("fsctrain: the GPU's memory is not enough") and said.count("\n") == 1
    assert "--micro-batch-size" in said and "--grad-checkpointing" in said
    fails(RuntimeError("a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        command(*run_words)


def test_unknown_flag() -> None:
    assert command("run", "--learning-rate", "1") == 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--version") == 0
    assert capsys.readouterr().out == f"fsctrain {fsctrain.__version__}\n"


def test_interrupt(run_words, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fsctrain.train, "train", interrupted)
    assert command(*run_words) == 130


def test_help_needs_no_torch() -> None:
    """The command answers at once: torch is imported by a run, not by its help."""
    code = """
import sys
from fsctrain.cli import main
sys.argv = ["fsctrain", "recipes"]
try:
    main()
except SystemExit:
    assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ, capture_output=True)
