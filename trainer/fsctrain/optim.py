"""AdamW and the learning rate schedules."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import AdamW

from fsctrain.config import Config


def make_optimizer(model: nn.Module, config: Config) -> AdamW:
    """AdamW (Loshchilov & Hutter, ICLR 2019) with weight decay on matrices only.

    Parameters with fewer than two dimensions (gains, biases, the class embedding, the logit scale)
    are not decayed; LoRA's matrices are. Frozen parameters are excluded.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    # Fused AdamW makes one pass over the weights instead of six; unfused, it took a quarter of the
    # demo's step time.
    return AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def learning_rate(step: int, steps: int, config: Config) -> float:
    """The learning rate at `step` (from 0) of `steps`: a linear warm-up, then the schedule.

    `cosine` decays to 0 along half a cosine (Loshchilov & Hutter, "SGDR", ICLR 2017), `constant`
    does not decay, `cooldown` decays linearly over the last `config.cooldown` steps and would
    reach 0 one step after the last (Hägele et al., NeurIPS 2024). All three match open_clip's.
    """
    warmed = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    if config.schedule == "cooldown":
        return config.lr * min(warmed, (steps - step) / config.cooldown)
    if config.schedule == "constant" or step < config.warmup:
        return config.lr * warmed
    progress = (step - config.warmup) / (steps - config.warmup)
    return config.lr * (1 + math.cos(math.pi * progress)) / 2
