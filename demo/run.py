"""make demo: measure what hard negatives teach, in a small synthetic world.

    python demo/run.py [--seeds 3] [--recipe negclip]

Scenes → fscdata pack → fscdata make-negatives → fscdata inspect → fsctrain twice, with and without
negatives but otherwise equal → a table and a PNG. The test captions come from the scene generator,
never from the generator of the negatives: true and false captions follow the same grammar, so a
model that sees only the text scores 50 %.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from figure import ShownScene, draw_figure
from fscdata.base.errors import FsckitError
from fscdata.contract import open_dataset
from fscdata.steps.expected import Settings
from fscdata.steps.negatives import make_negatives
from fscdata.steps.pack import pack
from fsctrain.benchmarks import choice_accuracy, recall_at_k
from fsctrain.config import load_config
from fsctrain.model import create_model, embed_images, embed_texts
from fsctrain.train import train
from scenes import Scene, make_world, write_pairs

HERE = Path(__file__).parent
OUT = HERE / "out"  # recreated by each run
TRAIN, TEST, STEPS, BATCH, VARIANTS = 10_000, 1_000, 400, 64, 4
CONTEXT_LENGTH = 18
KINDS = ("attribute swap", "object swap", "word replacement")
# The settings of both runs. A learning rate of 2e-3 fails, and 1e-3 trains only partly.
SETTINGS = {
    "model": str(HERE / "scenes-clip.json"),
    "pretrained": "none",
    "steps": STEPS,
    "batch_size": BATCH,
    "lr": 5e-4,
    "warmup": 40,
    "grad_clip_norm": 1.0,
    "device": "cpu",
    "workers": 0,
    "log_every": 50,
}
console = Console()


@dataclass(frozen=True)
class TestSet:
    """Images [M, 3, 48, 48] uint8, true captions [M, L], and false captions of each kind."""

    scenes: list[Scene]
    images: Tensor
    true: Tensor
    false: dict[str, Tensor]

    @classmethod
    def make(cls, scenes: list[Scene], seed: int) -> TestSet:
        """Draw the scenes and tokenize their captions."""
        rng = np.random.default_rng([seed, 2])
        tokenize = open_clip.SimpleTokenizer(context_length=CONTEXT_LENGTH)
        images = [torch.from_numpy(np.array(scene.draw(rng))).permute(2, 0, 1) for scene in scenes]
        false = [scene.false_captions(rng) for scene in scenes]
        return cls(
            scenes,
            torch.stack(images),
            tokenize([scene.caption() for scene in scenes]),
            {kind: tokenize([f[kind] for f in false]) for kind in KINDS},
        )

    def scores(self, model: nn.Module, step: int) -> dict[str, float]:
        """Accuracy per kind of false caption, and R@1 in both directions."""
        images, true = embed_images(model, self.images), embed_texts(model, self.true)
        scores = {
            kind: choice_accuracy(images, true, embed_texts(model, false))
            for kind, false in self.false.items()
        }
        recall = recall_at_k(images, true, torch.arange(len(true)), ks=(1,))
        return scores | {
            "R@1 image to text": recall["image_to_text_recall@1"],
            "R@1 text to image": recall["text_to_image_recall@1"],
        }


def command(*words: object) -> None:
    """Print and run a command of this project."""
    shown = [str(word) for word in words]
    say(f"$ {shlex.join(shown)}")
    subprocess.run([sys.executable, "-m", *shown], check=True)


def fine_tune(data: Path, out: Path, recipe: str, seed: int, test: TestSet) -> Path:
    """Train on one core, with scores every 50 steps; returns the run's folder."""
    torch.set_num_threads(1)
    settings = SETTINGS | {"data": data, "out": out, "name": f"{recipe}-{seed}", "seed": seed}
    return train(load_config(recipe, settings), evaluate=test.scores, evaluate_every=50).folder


def fine_tune_all(data: Path, out: Path, jobs: list[tuple[str, int]], test: TestSet) -> list[Path]:
    """Train each (recipe, seed), two at a time, and print the equivalent commands.

    Each run is a process with one thread: in one process, two threads that share two busy cores
    wait for each other, which made these small models up to ten times slower.
    """
    started = time.perf_counter()
    for recipe, seed in jobs:
        settings = SETTINGS | {"data": data, "out": out, "name": f"{recipe}-{seed}", "seed": seed}
        words = [f"--{k.replace('_', '-')}={v}" for k, v in settings.items()]
        say(f"$ {shlex.join(['fsctrain', 'run', f'--recipe={recipe}', *words])}")
    say("training two models at a time, one core each; this takes a few minutes")
    with ProcessPoolExecutor(max_workers=2, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(fine_tune, data, out, *job, test) for job in jobs]
        for future in as_completed(futures):
            run = future.result()
            shown = ", ".join(f"{kind} {score:.3f}" for kind, score in curve(run)[-1][1].items())
            console.print(f"{run.name}, {time.perf_counter() - started:.0f} s: {shown}")
    return [future.result() for future in futures]


def say(text: str) -> None:
    """Print one line without wrapping it."""
    console.print(f"\n{text}", style="bold", highlight=False, soft_wrap=True)


def curve(run: Path) -> list[tuple[int, dict[str, float]]]:
    """(step, scores) of a run's evaluations."""
    lines = (json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["scores"]) for line in lines if "scores" in line]


def interval(values: list[float], count: int) -> str:
    """The mean with its 95 % interval over the test items; with several seeds, its range."""
    mean = sum(values) / len(values)
    if len(values) > 1:
        return f"{mean:.3f} ({min(values):.3f}–{max(values):.3f})"
    z2 = 1.96**2  # Wilson's interval
    centre = (mean + z2 / (2 * count)) / (1 + z2 / count)
    half = 1.96 * (mean * (1 - mean) / count + z2 / (4 * count**2)) ** 0.5 / (1 + z2 / count)
    return f"{mean:.3f} ({centre - half:.3f}–{centre + half:.3f})"


def result_table(runs: dict[str, list[Path]]) -> Table:
    """The final scores of each recipe's runs, side by side."""
    seeds = len(next(iter(runs.values())))
    what = f"mean and range of {seeds} seeds" if seeds > 1 else "95 % intervals"
    table = Table(title=f"After {STEPS} steps, {TEST:,} test scenes, {what}", title_justify="left")
    table.add_column("")
    for recipe in runs:
        table.add_column(recipe, justify="right")
    table.add_column("text alone", justify="right")
    finals = {name: [curve(run)[-1][1] for run in folders] for name, folders in runs.items()}
    for kind in finals["clip"][0]:
        cells = [interval([s[kind] for s in scores], TEST) for scores in finals.values()]
        chance = 1 / TEST if kind.startswith("R@1") else 0.5
        table.add_row(kind, *cells, f"{chance:.3f}")
    return table


def load_run(run: Path) -> nn.Module:
    """Load a finished run's model."""
    clip = create_model(SETTINGS["model"], str(run / "checkpoint" / "open_clip_model.safetensors"))
    return clip.model.eval()


def shown_scenes(
    folder: Path, recipe: str, runs: dict[str, list[Path]], world: list[Scene]
) -> Iterator[ShownScene]:
    """Four test scenes with the pipeline's first negatives and the models' preferences."""
    write_pairs(folder, world[:4], seed=1)
    data = folder / "data"
    pack(data, folder / "images", folder / "captions.tsv")
    make_negatives(data, Settings(recipe))
    styles = load_config(recipe, {"data": data}).styles
    dataset = open_dataset(data, list(styles))
    models = {name: load_run(folders[0]) for name, folders in runs.items()}
    tokenize = open_clip.SimpleTokenizer(context_length=CONTEXT_LENGTH)
    negatives = {
        style: {row["key"]: row["negative"] for row in dataset.negatives[style][0].to_pylist()}
        for style in styles
    }
    for image, row in zip(
        sorted((folder / "images").iterdir()), dataset.samples[0].to_pylist(), strict=True
    ):
        pixels = np.array(Image.open(image).convert("RGB"))
        made = [(style, negatives[style].get(row["key"])) for style in styles]
        made = [(style, text) for style, text in made if text is not None]
        batch = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        tokens = tokenize([row["caption"], *(text for _, text in made)])
        prefers: dict[str, list[bool]] = {}
        with torch.no_grad():
            for name, model in models.items():
                scores = embed_images(model, batch) @ embed_texts(model, tokens).T  # [1, texts]
                true, *false = scores[0].tolist()
                prefers[name] = [true > score for score in false]
        yield ShownScene(
            pixels,
            row["caption"],
            [
                (style, text, {name: prefers[name][i] for name in models})
                for i, (style, text) in enumerate(made)
            ],
        )


def main() -> None:
    """Run the demo, as described at the top of this file."""
    parser = argparse.ArgumentParser(
        description="Measure what hard negatives teach, in a small world."
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=1,
        choices=range(1, 11),
        help="training runs per recipe [default: 1]",
    )
    parser.add_argument(
        "--recipe",
        default="fsc-clip",
        choices=["fsc-clip", "negclip"],
        help="recipe to compare with clip [default: fsc-clip]",
    )
    args = parser.parse_args()
    started = time.perf_counter()
    shutil.rmtree(OUT, ignore_errors=True)

    console.print(
        f"{TRAIN:,} training scenes; {TEST:,} test scenes with graphs not seen in training"
    )
    world = make_world(TRAIN, TEST, seed=0)
    write_pairs(OUT / "scenes", world.train, seed=0)
    test = TestSet.make(world.test, seed=0)
    data = OUT / "data"
    scenes = OUT / "scenes"
    shards = ("--samples-per-shard", 2_500)
    command("fscdata", "pack", data, "--images", scenes / "images",
            "--captions", scenes / "captions.tsv", *shards)  # fmt: skip
    command("fscdata", "make-negatives", data, "--recipe", args.recipe, "--variants", VARIANTS)
    command("fscdata", "inspect", data)

    # Longer runs first, to keep both cores busy until the end.
    jobs = [(recipe, seed) for recipe in (args.recipe, "clip") for seed in range(args.seeds)]
    folders = fine_tune_all(data, OUT / "runs", jobs, test)
    runs: dict[str, list[Path]] = {"clip": [], args.recipe: []}
    for folder, (recipe, _) in zip(folders, jobs, strict=True):
        runs[recipe].append(folder)

    console.print()
    console.print(result_table(runs))
    image = OUT / "demo.png"
    curves = {recipe: [curve(run) for run in folders] for recipe, folders in runs.items()}
    scenes = shown_scenes(OUT / "shown", args.recipe, runs, world.test)
    draw_figure(image, curves, list(scenes))
    console.print(
        f"\nCaptions name the left or upper object first, so a model can match words to objects by "
        f"their order.\n{image} · {time.perf_counter() - started:.0f} s in total",
        highlight=False,
    )


if __name__ == "__main__":
    try:
        main()
    except FsckitError as error:
        sys.exit(f"demo: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
