"""LoRA: low-rank updates of frozen weights, as parametrizations of open_clip's own modules.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021. A weight W [out, in] stays
frozen, and the model computes with W + (alpha/rank)·B·A; only A [rank, in] and B [out, rank] are
trained. Parametrizations replace the weight itself, because `nn.MultiheadAttention` reads its
projections as tensors and never calls them as modules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fscdata.base.errors import FsckitError
from fsctrain.model.create import OpenClip

ConvRank = Literal["rank", "full"]
PATCH_WEIGHT = "visual.conv1.weight"

# Attention's in- and out-projections and the MLP of every block, and the patch convolution.
_WEIGHTS = re.compile(
    r"(.*\.)?resblocks\.\d+\.(attn\.in_proj_weight|attn\.out_proj\.weight|mlp\.c_(fc|proj)\.weight)"
    rf"|{re.escape(PATCH_WEIGHT)}"
)


class LowRankUpdate(nn.Module):
    """W → W + (alpha/rank)·B·A.

    `conv` decides how a convolution's W [out, in, k, k] becomes a matrix: "rank" treats it as
    [out, in·k·k]; "full" as [out·k, in·k] with updates of rank rank·k, like loralib's Conv2d, which
    FSC-CLIP's released runs use. As a map from patches to features the latter has full rank:
    768 for ViT-B-32 at rank 4, with three quarters of all LoRA parameters.

    B starts at zero, so the model initially equals the base model. A is initialized like the
    weights of `nn.Linear`, as in the authors' code.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float, conv: ConvRank = "rank") -> None:
        super().__init__()
        self.rank = rank
        self.alpha = alpha
        self.conv = conv
        k = weight.shape[-1] if weight.ndim == 4 and conv == "full" else 1
        outputs, inputs = weight.flatten(1).shape
        self.A = nn.Parameter(weight.new_empty(rank * k, inputs // k))
        self.B = nn.Parameter(weight.new_zeros(outputs * k, rank * k))
        nn.init.kaiming_uniform_(self.A, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        # In float32 even under autocast: an update is small compared with its weight.
        with torch.autocast(weight.device.type, enabled=False):
            matrix = weight.reshape(len(self.B), self.A.shape[1])
            flat = torch.addmm(matrix, self.B, self.A, alpha=self.alpha / self.rank)
        return flat.view_as(weight)


def apply_lora(model: OpenClip, rank: int, alpha: float, conv: ConvRank = "rank") -> None:
    """Freeze a model, including its logit scale, and add trainable low-rank updates.

    Args:
        model: an open_clip model with open_clip's own transformers as towers.
        rank: the rank of every update.
        alpha: updates are multiplied by alpha/rank, so that the learning rate does not depend
            on the rank. FSC-CLIP uses alpha 1 at rank 4, a factor of 1/4.
        conv: how the patch convolution is updated, see `LowRankUpdate`.

    Raises:
        FsckitError: the image tower is a ResNet or a timm model.
    """
    if not isinstance(model.visual, VisionTransformer):
        raise FsckitError(
            f"`lora_rank` {rank}: LoRA needs open_clip's VisionTransformer, but the image tower is "
            f"a {type(model.visual).__name__}; remove `lora_rank`, or choose a model such as "
            f"ViT-B-32"
        )
    model.requires_grad_(False)
    names = [name for name, _ in model.named_parameters() if _WEIGHTS.fullmatch(name)]
    for name in names:
        module, weight = _owner(model, name)
        update = LowRankUpdate(getattr(module, weight), rank, alpha, conv)
        # `unsafe` skips a trial call that checks shapes; ours never change.
        parametrize.register_parametrization(module, weight, update, unsafe=True)


def lora_updates(model: nn.Module) -> dict[str, LowRankUpdate]:
    """The updates by their weights' names in open_clip; empty without LoRA."""
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
    """Load the matrices of `lora_state` into a model with LoRA of the same rank.

    Raises:
        FsckitError: names or shapes differ; the model is unchanged.
    """
    own = lora_state(model)
    if own.keys() != state.keys():
        name = min(own.keys() ^ state.keys())
        problem = "missing" if name in own else "not part of this model"
        raise FsckitError(f"LoRA weights do not fit the model: {name} is {problem}")
    for name, tensor in own.items():
        if tensor.shape != state[name].shape:
            raise FsckitError(
                f"LoRA weights do not fit the model: {name} has shape {list(state[name].shape)}, "
                f"expected {list(tensor.shape)}"
            )
    for name, tensor in own.items():
        tensor.copy_(state[name])


def base_state(model: nn.Module) -> dict[str, Tensor]:
    """The base model's state dict, under open_clip's own names."""
    return {
        name.replace("parametrizations.", "").removesuffix(".original"): tensor
        for name, tensor in model.state_dict().items()
        if not re.search(r"\.0\.[AB]$", name)
    }


def merge_lora(model: nn.Module) -> None:
    """Merge the updates into the weights, restoring open_clip's own names."""
    for name in lora_updates(model):
        parametrize.remove_parametrizations(*_owner(model, name), leave_parametrized=True)


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that owns a parameter, and the parameter's name in it."""
    path, _, weight = name.rpartition(".")
    return model.get_submodule(path), weight
