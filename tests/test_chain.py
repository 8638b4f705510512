"""From images and captions to a checkpoint, with both commands as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image

from fscdata.base.errors import FsckitError
from fscdata.steps.expected import Settings
from fscdata.steps.negatives import make_negatives
from fsctrain.config import Config, load_config
from fsctrain.train import train
from support import TESTS
from support.captions import TEMPLATES
from support.tars import img2dataset_sample, sample, write_tar

pytestmark = pytest.mark.slow


def run(*words: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", *(str(word) for word in words)],
        capture_output=True,
        text=True,
        check=True,
    )


def test_pack_make_negatives_train_load(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    lines = ["image\tcaption"]
    for i in range(12):
        Image.new("RGB", (48, 40), (20 * i, 255 - 20 * i, 120)).save(images / f"{i}.jpg")
        lines += [f"{i}.jpg\t{TEMPLATES[i]}", f"{i}.jpg\t{TEMPLATES[i + 40]}"]
    lines.append("nowhere.jpg\tA dog.")
    (tmp_path / "captions.tsv").write_text("\n".join(lines) + "\n")
    data = tmp_path / "data"

    packed = run("fscdata", "pack", data, "--images", images,
                 "--captions", tmp_path / "captions.tsv", "--samples-per-shard", 5)  # fmt: skip
    assert "12 samples, 24 captions" in packed.stdout
    assert "missing image: 1" in packed.stdout
    made = run("fscdata", "make-negatives", data, "--recipe", "fsc-clip", "--variants", 2)
    assert "24 captions in 3 shards" in made.stdout
    assert "24" in run("fscdata", "inspect", data).stdout

    trained = run(
        "fsctrain", "run", "--data", data, "--recipe", "fsc-clip", "--pretrained", "none",
        "--model", TESTS / "trainer" / "tiny.json", "--batch-size", 7, "--epochs", 2,
        "--out", tmp_path / "runs", "--workers", 0, "--device", "cpu", "--log-every", 1,
    )  # fmt: skip
    assert "create_model" in trained.stdout
    run_folder = tmp_path / "runs" / "fsc-clip"
    records = [json.loads(line) for line in (run_folder / "metrics.jsonl").open()]
    assert len(records) == 2 * 4, "24 captions in batches of 7, the last one partial"
    assert all(record["with_negatives"] > 0.8 for record in records)

    model = open_clip.create_model(f"local-dir:{run_folder / 'checkpoint'}").eval()
    with torch.no_grad():
        text = model.encode_text(torch.zeros(1, model.context_length, dtype=torch.long))
    assert text.isfinite().all()


def test_trains_on_img2dataset_shards_without_token_ids(tmp_path: Path) -> None:
    """Without stored ids the trainer tokenizes; several variants of one style."""
    members = [m for i in range(6) for m in img2dataset_sample(f"{i:09d}", TEMPLATES[i])]
    write_tar(tmp_path / "data" / "00000.tar", members)
    make_negatives(tmp_path / "data", Settings("negclip", variants=3, tokenizer="none"))
    run = train(config(tmp_path, "negclip"))
    assert run.steps == 4
    assert run.checkpoint.is_file()


def test_trains_on_published_negatives(tmp_path: Path) -> None:
    captions = ["a dog chases a cat", "a man near a car"]
    negatives = [["a cat chases a dog", "a dog flees a cat"], []]
    members = [m for i in range(6) for m in sample(str(i), captions, published_negatives=negatives)]
    write_tar(tmp_path / "data" / "00000.tar", members)
    make_negatives(tmp_path / "data", Settings("imported", variants=2))
    folder = train(config(tmp_path, "negclip", styles=["imported"])).folder
    records = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    assert sum(record["with_negatives"] for record in records) / len(records) == 0.5


def config(folder: Path, recipe: str, **settings: object) -> Config:
    """Four steps of the tiny model."""
    common = {
        "data": folder / "data",
        "out": folder / "runs",
        "model": str(TESTS / "trainer" / "tiny.json"),
        "pretrained": "none",
        "batch_size": 3,
        "steps": 4,
        "device": "cpu",
        "workers": 0,
        "log_every": 1,
    }
    return load_config(recipe, common | settings)


def test_negatives_indistinguishable_from_the_caption_are_dropped(
    tmp_path: Path,
) -> None:
    """They differ only in case, or after the model's 16 tokens."""
    long = "a dog and a cat and a cow and a pig and a hen and a duck near a red car"
    published = [["A DOG chases a cat"], [long.replace("red", "blue")], ["a cat chases a dog"]]
    captions = ["a dog chases a cat", long, "a man near a car"]
    members = sample("0", captions, published_negatives=published)
    write_tar(tmp_path / "data" / "00000.tar", members)
    make_negatives(tmp_path / "data", Settings("imported"))
    folder = train(config(tmp_path, "negclip", styles=["imported"], steps=1)).folder
    record = json.loads((folder / "metrics.jsonl").read_text())
    assert record["with_negatives"] == pytest.approx(1 / 3)


def test_a_style_without_negatives_is_rejected(tmp_path: Path) -> None:
    write_tar(tmp_path / "data" / "00000.tar", sample("0", TEMPLATES[:2]))
    make_negatives(tmp_path / "data", Settings("imported"))
    with pytest.raises(FsckitError, match="no caption has a negative of style imported"):
        train(config(tmp_path, "negclip", styles=["imported"]))
