"""LoRA: low-rank updates of frozen weights, as parametrizations of open_clip's own modules.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021. A weight W [out, in] is
kept, and the model computes with W + (alpha/rank)·B·A, where only A [rank, in] and B [out, rank]
are trained. A parametrization acts on the weight itself, so that `nn.MultiheadAttention`, which
reads its projections as tensors and never calls them as modules, needs nothing of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fscdata.base.errors import FsckitError
from fsctrain.model.create import OpenClip

# Attention's in- and out-projections and the MLP of every block, and the patch convolution.
_WEIGHTS = re.compile(
    r"(.*\.)?resblocks\.\d+\.(attn\.in_proj_weight|attn\.out_proj\.weight|mlp\.c_(fc|proj)\.weight)"
    r"|visual\.conv1\.weight"
)


class LowRankUpdate(nn.Module):
    """W → W + (alpha/rank)·B·A; a convolution's W [out, in, h, w] counts as [out, in·h·w].

    B starts as zeros: the first forward is the base model's. A is drawn as `nn.Linear` draws
    its weights, by torch's generator, which is what the paper's authors do.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        self.rank = rank
        self.alpha = alpha
        outputs, inputs = weight.flatten(1).shape
        self.A = nn.Parameter(weight.new_empty(rank, inputs))
        self.B = nn.Parameter(weight.new_zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.A, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        # In float32 also where autocast is on: an update is small beside its weight.
        with torch.autocast(weight.device.type, enabled=False):
            flat = torch.addmm(weight.flatten(1), self.B, self.A, alpha=self.alpha / self.rank)
        return flat.view_as(weight)


def apply_lora(model: OpenClip, rank: int, alpha: float) -> None:
    """Freeze a model, logit scale included, and give it trainable low-rank updates.

    Args:
        model: an open_clip model whose towers are its own transformers.
        rank: of every update; the number of parameters grows with it.
        alpha: an update counts alpha/rank. With alpha kept, a change of the rank asks for no
            other learning rate; alpha 1 at rank 4, as FSC-CLIP has it, means a quarter.

    Raises:
        FsckitError: the image tower is a ResNet, or timm's.
    """
    if not isinstance(model.visual, VisionTransformer):
        raise FsckitError(
            f"--lora-rank {rank}: the image tower is a {type(model.visual).__name__}, and LoRA is "
            f"for open_clip's VisionTransformer; leave --lora-rank out, or choose a model such as "
            f"ViT-B-32"
        )
    model.requires_grad_(False)
    names = [name for name, _ in model.named_parameters() if _WEIGHTS.fullmatch(name)]
    for name in names:
        module, weight = _owner(model, name)
        update = LowRankUpdate(getattr(module, weight), rank, alpha)
        # Unsafe: without it torch would call the update once more, to learn that shapes are kept.
        parametrize.register_parametrization(module, weight, update, unsafe=True)


def lora_updates(model: nn.Module) -> dict[str, LowRankUpdate]:
    """The updates by the names that their weights have in open_clip; none without LoRA."""
    return {
        name.replace("parametrizations.", "").removesuffix(".0"): module
        for name, module in model.named_modules()
        if isinstance(module, LowRankUpdate)
    }


def lora_state(model: nn.Module) -> dict[str, Tensor]:
    """The updates' matrices: `visual.conv1.weight.A` [rank, in], `visual.conv1.weight.B`, …"""
    return {
        f"{name}.{matrix}": tensor.detach()
        for name, update in lora_updates(model).items()
        for matrix, tensor in (("A", update.A), ("B", update.B))
    }


def load_lora_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy what `lora_state` gave into a model with LoRA of the same rank.

    Raises:
        FsckitError: names or shapes differ; nothing is copied then.
    """
    own = lora_state(model)
    if own.keys() != state.keys():
        name = min(own.keys() ^ state.keys())
        where = "missing" if name in own else "unknown to this model"
        raise FsckitError(f"LoRA weights that do not fit the model: {name} is {where}")
    for name, tensor in own.items():
        if tensor.shape != state[name].shape:
            raise FsckitError(
                f"LoRA weights that do not fit the model: {name} has the shape "
                f"{list(state[name].shape)}, and {list(tensor.shape)} is wanted"
            )
    for name, tensor in own.items():
        tensor.copy_(state[name])


def base_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict without the updates, under open_clip's own names."""
    return {
        name.replace("parametrizations.", "").removesuffix(".original"): tensor
        for name, tensor in model.state_dict().items()
        if not re.search(r"\.0\.[AB]$", name)
    }


def merge_lora(model: nn.Module) -> None:
    """Fold the updates into plain weights; the state dict has open_clip's own names again."""
    for name in lora_updates(model):
        parametrize.remove_parametrizations(*_owner(model, name), leave_parametrized=True)


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that has a parameter, and the parameter's name in it."""
    path, _, weight = name.rpartition(".")
    return model.get_submodule(path), weight
