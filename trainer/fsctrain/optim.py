"""AdamW and its schedules."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import AdamW

from fsctrain.config import Config


def make_optimizer(model: nn.Module, config: Config) -> AdamW:
    """AdamW (Loshchilov & Hutter, ICLR 2019) with weight decay on matrices only.

    Parameters of fewer than two dimensions (gains, biases, the class embedding, the logit scale)
    are not decayed; LoRA's matrices are. Frozen parameters are left out.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    # Fused: one pass over the weights. Unfused, it took a quarter of the demo's step.
    return AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def learning_rate(step: int, steps: int, config: Config) -> float:
    """The rate of a step (from 0) of `steps`: a linear warm-up, then the schedule.

    `cosine` is half a cosine down to 0 (Loshchilov & Hutter, "SGDR", ICLR 2017), `constant` stays,
    `cooldown` stays and falls linearly in its last `config.cooldown` steps, to reach 0 where a
    step after the last would be (Hägele et al., NeurIPS 2024). All three as open_clip has them.
    """
    warmed = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    if config.schedule == "cooldown":
        return config.lr * min(warmed, (steps - step) / config.cooldown)
    if config.schedule == "constant" or step < config.warmup:
        return config.lr * warmed
    progress = (step - config.warmup) / (steps - config.warmup)
    return config.lr * (1 + math.cos(math.pi * progress)) / 2
