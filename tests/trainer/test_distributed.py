"""One rank and several ranks give the same batches, losses and gradients."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fsctrain.config import Config
from fsctrain.distributed import Ranks
from support import SUPPORT
from support.rank_work import gradients_of
from support.warm import WarmRanks

pytestmark = pytest.mark.slow

RANK_WORK = SUPPORT / "rank_work.py"
PLAIN = {"global_weight": 0.0, "local_weight": 0.0}
LOSSES: dict[str, dict[str, Any]] = {
    "clip": {"loss": "clip", "styles": (), **PLAIN},
    "negclip": {"loss": "negclip", **PLAIN},
    "fsc-clip": {"loss": "fsc-clip"},
    "fsc-clip-lora": {"loss": "fsc-clip", "lora_rank": 2},
}
# An epoch's last batch has two rows: two of four ranks have none.
STEPS = (0, 2)


def torchrun(ranks: int, *words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run torchrun with these arguments; returns its output."""
    return subprocess.run(
        [*torchrun_command(ranks), *map(str, words)],
        capture_output=True, text=True, check=False, timeout=300, **options,
    )  # fmt: skip


def torchrun_command(ranks: int, *options: str) -> list[str]:
    """The command with any free port, so that concurrent runs do not collide."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
    return [*command, "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", *options]


def settings(config: Config, **changed: Any) -> dict[str, Any]:
    return config.model_copy(update={"batch_size": 5, **changed}).model_dump(mode="json")


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equal within float32's tolerance: sums are in a different order."""
    assert found.keys() == expected.keys()
    for name, right in expected.items():
        apart = (found[name] - right).abs().max().item()
        assert apart <= 1e-4 * right.abs().max().item() + 1e-7, (name, apart)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_number_of_ranks_changes_nothing(size: int, config: Config, tmp_path: Path) -> None:
    cases = [
        (settings(config, **LOSSES[loss], shard_loss=shard, micro_batch_size=micro), step)
        for loss in LOSSES
        for shard, micro, step in [(True, None, 0), (False, None, 2), (True, 1, 0), (True, 1, 2)]
    ]
    work = tmp_path / "cases.json"
    work.write_text(json.dumps(cases))
    ranks = WarmRanks(size, [str(RANK_WORK), str(work), str(tmp_path)])
    _, err = ranks.communicate(timeout=300)
    assert ranks.returncode == 0, err
    for number, (case, step) in enumerate(cases):
        found = load_file(tmp_path / f"{number}.safetensors")
        alone = gradients_of({**case, "micro_batch_size": None}, step, Ranks(), torch.device("cpu"))
        assert len(found.pop("rows")) == size and len(alone.pop("rows")) == 1
        assert torch.equal(found["keys"], alone["keys"]), "the batch differs"
        assert_close(found, alone)


def test_ranks_recognize_the_same_image(
    config: Config, samples: list, make_data, tmp_path: Path
) -> None:
    """Three captions of an image, read by different ranks."""
    for sample in samples:
        sample.captions *= 3
        sample.negatives = {style: 3 * of for style, of in sample.negatives.items()}
    make_data(samples)
    masked = {**LOSSES["fsc-clip"], "mask_same_image": True, "batch_size": 12}
    cases = [(settings(config, **masked), 1), (settings(config, **masked, micro_batch_size=2), 1)]
    work = tmp_path / "cases.json"
    work.write_text(json.dumps(cases))
    ranks = WarmRanks(2, [str(RANK_WORK), str(work), str(tmp_path)])
    _, err = ranks.communicate(timeout=300)
    assert ranks.returncode == 0, err
    expected = gradients_of(cases[0][0], 1, Ranks(), torch.device("cpu"))
    assert len(set(expected["keys"].tolist())) < 12, "else the test shows nothing"
    unmasked = settings(config, **{**masked, "mask_same_image": False})
    other = gradients_of(unmasked, 1, Ranks(), torch.device("cpu"))
    assert (expected["loss.clip"] - other["loss.clip"]).abs() > 1e-2
    for number in range(2):
        found = load_file(tmp_path / f"{number}.safetensors")
        for tensors in (found, expected):
            tensors.pop("rows", None)
        assert_close(found, expected)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("step", STEPS)
def test_micro_batches_change_nothing(loss: str, step: int, config: Config) -> None:
    """GradCache: the gradient equals that of the large batch."""
    case = settings(config, **LOSSES[loss])
    device = torch.device("cpu")
    whole = gradients_of(case, step, Ranks(), device)
    for size in (1, 2, 3):
        found = gradients_of({**case, "micro_batch_size": size}, step, Ranks(), device)
        assert_close(found, whole)
