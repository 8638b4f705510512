"""A rank in test_distributed: `torchrun rank_work.py CASES.json OUT`.

CASES is a list of (settings, step number). For each one, the first rank writes the losses and the
gradients of that step's global batch.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from fsctrain.config import Config
from fsctrain.distributed import Ranks, open_ranks
from fsctrain.setup import prepare


def gradients_of(
    settings: dict, step: int, ranks: Ranks, device: torch.device
) -> dict[str, Tensor]:
    """The global losses and the gradients of one step, by name."""
    config = Config(**settings)
    training = prepare(config, Path("nowhere"), ranks, device)
    training.clip.model.train()
    (batch,) = training.source.batches(step, step + 1)
    rows = ranks.numbers([len(batch)])[:, 0].tolist()
    losses, _ = training.gradients(batch, rows)
    found = {f"loss.{name}": ranks.sum(loss.detach()) for name, loss in losses.items()}
    for name, parameter in training.clip.model.named_parameters():
        if parameter.grad is not None:
            found[name] = parameter.grad
    found["keys"] = torch.tensor([int(k) for part in ranks.objects(batch.keys) for k in part])
    found["rows"] = torch.tensor(rows)
    return found


def main(cases: str, out: str) -> None:
    torch.set_num_threads(1)
    with open_ranks("cpu") as (ranks, device):
        for number, (settings, step) in enumerate(json.loads(Path(cases).read_text())):
            found = gradients_of(settings, step, ranks, device)
            if ranks.first:
                save_file(found, Path(out, f"{number}.safetensors"))


if __name__ == "__main__":
    main(*sys.argv[1:])
