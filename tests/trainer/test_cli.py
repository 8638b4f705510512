"""The command: its options, its output and its exit codes."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch

import fsctrain
import fsctrain.train
from fsctrain.cli import Commands
from fsctrain.config import Config
from fsctrain.fields import Panel
from support.commands import command


@pytest.fixture
def run_words(config: Config, tiny_model: str) -> list[object]:
    return [
        *("run", "--recipe", "fsc-clip", "--data", config.data[0], "--styles", "colour,shape"),
        *("--model", tiny_model, "--pretrained", "none", "--steps", 3, "--batch-size", 4),
        *("--workers", 0, "--out", config.out, "--log-every", 2, "--device", "cpu"),
        *("--warmup", 1),
    ]


def test_every_setting_is_an_option_in_a_panel(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Commands().load("run")
    options = {option for parameter in run.params for option in parameter.opts}
    settings = {f"--{name.replace('_', '-')}" for name in Config.model_fields}
    assert options - {"--help", "--resume"} == settings

    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 400)
    assert command("run", "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    for name, field in Config.model_fields.items():
        row = next(line for line in lines if f" --{name.replace('_', '-')} " in line)
        assert field.description in row
    title = re.compile("╭─ (.+?) ─")
    titles = [match[1] for line in lines if (match := title.match(line))]
    assert titles == ["Options", *get_args(Panel)]
    first_option = lines[lines.index(next(line for line in lines if "╭─ Run" in line)) + 1]
    assert "--recipe " in first_option and first_option.rstrip("│ ").endswith("[required]")
    text = "\n".join(lines)
    assert "[required, here or in the recipe]" in text
    assert "[default: 0.9,0.98]" in text and "[default: 5e-06]" in text
    assert "[default: one epoch]" in text and "[default: off]" in text


@pytest.mark.slow
def test_a_run_prints_progress_and_how_to_load_the_result(
    run_words, capsys: pytest.CaptureFixture[str], config: Config
) -> None:
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
    assert re.fullmatch(r"finished 3 of 3 steps; this command took 0:00:\d\d", lines[5])
    loss = lines[4].partition(" loss ")[2].partition(" ")[0]
    assert lines[6].startswith(f"final losses: loss {loss}, clip ")
    assert re.fullmatch(r"final prefers_true: colour \d\.\d\d, shape \d\.\d\d", lines[7])
    assert lines[8] == f"checkpoint: {weights}"
    assert lines[9] == f"load it with: open_clip.create_model('local-dir:{weights.parent}')"
    assert weights.is_file() and len(lines) == 10
    assert command(*run_words) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"fsctrain: {config.out / 'fsc-clip'}: already contains a run")
    assert captured.err.count("\n") == 1


def test_options_override_the_recipe(run_words, config: Config) -> None:
    assert command(*run_words, "--local-weight", 0, "--lr", "1e-3", "--name", "x") == 0
    text = (config.out / "x" / "config.yaml").read_text()
    assert "local_weight: 0.0\n" in text and "global_weight: 0.5\n" in text
    assert "lr: 0.001\n" in text and "recipe: fsc-clip\n" in text
    assert text.startswith(
        f"# fsctrain run --recipe {config.out / 'x' / 'config.yaml'} --name NAME"
    )
    assert command("run", "--recipe", config.out / "x" / "config.yaml", "--name", "y") == 0
    assert (config.out / "y" / "checkpoint").is_dir()


def test_bad_images_are_reported(run_words, make_data, samples, capsys) -> None:
    samples[2].image = b"<html>"
    make_data(samples)
    assert command(*run_words) == 0
    assert "replaced bad images: not an image: 1; see " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run"], "--recipe is missing; choose clip, clip-cc3m-100k, "),
        (["run", "--recipe", "nope"], "unknown recipe 'nope'; choose clip, clip-cc3m-100k, "),
        (["run", "--recipe", "clip"], "--data is missing"),
        (["run", "--recipe", "clip", "--data", "x", "--lr", "0"], "--lr 0: input should be"),
        (["recipes", "nope"], "unknown recipe 'nope'; choose clip, clip-cc3m-100k, "),
    ],
)
def test_errors_are_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*words) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"fsctrain: {message}") and captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize("full", [False, True])
def test_an_unwritable_folder_gives_a_one_line_error(
    full: bool, run_words, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that cannot be created, and a disk that fills up while the weights are written."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if full:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        message = "too large"
    else:
        (tmp_path / "file").touch()
        run_words += ["--out", tmp_path / "file"]
        message = f"{tmp_path / 'file' / 'fsc-clip'}: cannot be written (File exists)"
    try:
        assert command(*run_words) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    captured = capsys.readouterr()
    assert captured.err.startswith("fsctrain: ") and captured.err.count("\n") == 1
    assert message in captured.err


def test_a_schedule_longer_than_the_run_is_refused(
    run_words, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the data reveals that an epoch of 12 captions is 3 steps."""
    run_words += ["--steps", "none", "--epochs", 1]
    cooldown = ("--schedule", "cooldown", "--cooldown", 3)
    assert command(*run_words, *cooldown) == 1
    message = "--warmup 1 and --cooldown 3 exceed the run's 3 steps; shorten them"
    assert capsys.readouterr().err == f"fsctrain: {message}\n"
    assert command(*run_words, *cooldown, "--warmup", 0, "--name", "short") == 0
    assert "warm-up" not in capsys.readouterr().out
    assert command(*run_words, "--warmup", 4, "--name", "warm") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "the warm-up (4 steps) is longer than the run (3 steps)" in out


@pytest.mark.slow
def test_warns_of_repeated_and_of_unusable_negatives(
    run_words, make_data, samples, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tables have three variants, so a fourth epoch repeats them."""
    samples[0].negatives["colour"] = [["A TALL RED IMAGE"]]  # equal but for case
    make_data(samples)
    for epochs in (3, 4):
        name = f"epochs-{epochs}"
        assert command(*run_words, "--steps", "none", "--epochs", epochs, "--name", name) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert "whose truncated tokens equal their caption's are skipped: colour 4.0%" in out
        warned = "4 epochs repeat negatives, since their tables have 3 of colour, 3 of shape" in out
        assert warned == (epochs == 4)
    assert "--recipe colour,shape --variants 4 --overwrite'" in out


def test_running_out_of_gpu_memory_says_what_to_do(
    run_words, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def fail_with(error: Exception):
        def train(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(fsctrain.train, "train", train)

    fail_with(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore"))
    assert command(*run_words) == 1
    message = capsys.readouterr().err
    assert message.startswith("fsctrain: out of GPU memory;") and message.count("\n") == 1
    assert "--micro-batch-size" in message and "--grad-checkpointing" in message
    fail_with(RuntimeError("a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        command(*run_words)


def test_an_unknown_option_exits_with_2() -> None:
    assert command("run", "--learning-rate", "1") == 2


def test_prints_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--version") == 0
    assert capsys.readouterr().out == f"fsctrain {fsctrain.__version__}\n"


def test_an_interrupt_exits_with_130(run_words, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fsctrain.train, "train", interrupted)
    assert command(*run_words) == 130


@pytest.mark.parametrize(
    "words",
    [["--help"], ["recipes"], *([name, "--help"] for name in Commands.lazy)],
    ids=" ".join,
)
@pytest.mark.slow
def test_help_does_not_import_torch(words: list[str]) -> None:
    """Importing torch takes seconds; only commands that compute need it."""
    code = f"""
import sys
from fsctrain.cli import main
sys.argv = ["fsctrain", *{words}]
try:
    main()
except SystemExit as exit:
    assert not exit.code
heavy = ["torch", "open_clip", "matplotlib", "PIL", "fsctrain.train"]
print("imported:", [name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "imported: []"


def test_summaries_are_the_docstrings_first_lines() -> None:
    """`fsctrain --help` imports no subcommand; each one's own help must have the same summary."""
    for name, (_, summary) in Commands.lazy.items():
        subcommand = Commands().load(name)
        assert subcommand.help.splitlines()[0] == summary, name


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["run", "--recipe", "clip", "--data", "nowhere"], 1, "nowhere: no such folder"),
        (["run", "--recipe", "clip", "--data", ".", "--name", "x"], 1, "x: already contains a run"),
        (["plot", "x"], 0, ""),
    ],
)
@pytest.mark.slow
def test_a_mistake_and_a_plot_need_no_torch(
    words: list[str], code: int, message: str, tmp_path: Path
) -> None:
    (tmp_path / "runs" / "x" / "checkpoint").mkdir(parents=True)
    (tmp_path / "x").mkdir()
    record = {"step": 1, "loss": 1.0, "lr": 1.0, "prefers_true": {}, "samples_per_second": 1.0}
    (tmp_path / "x" / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    script = f"""
import sys
from fsctrain.cli import main
sys.argv = ["fsctrain", *{words}]
try:
    main()
except SystemExit as exit:
    print(exit.code, [name for name in ("torch", "open_clip") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == f"{code} []", done.stderr
    assert message in done.stderr and done.stderr.count("\n") == code
