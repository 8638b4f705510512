"""Unit features and local tokens of images and texts, computed with open_clip's own modules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import (
    Attention,
    TextTransformer,
    VisionTransformer,
    text_global_pool,
)
from torch import Tensor, nn

from fscdata.base.errors import FsckitError
from fsctrain.model.create import OpenClip
from fsctrain.model.packing import Packing


@dataclass(frozen=True)
class _TextTower:
    """The parts of a model's text tower, which open_clip keeps in one of two places."""

    parts: Any  # open_clip.CLIP itself, or the TextTransformer of a CustomTextCLIP
    pool_type: str
    eos_id: int


def check_towers(model: OpenClip, name: str, *, local: bool) -> None:
    """Check that the encoders below and the losses support all parts of a model.

    Args:
        model: an open_clip model.
        name: its name, for the message.
        local: whether the loss needs local tokens.

    Raises:
        FsckitError: a part is not supported; the message names it.
    """
    if isinstance(model, open_clip.CustomTextCLIP):
        supported = isinstance(model.text, TextTransformer) and model.text.cls_emb is None
    else:
        supported = isinstance(model, open_clip.CLIP)
    if not supported:
        raise FsckitError(
            f"model {name}: fsctrain supports only a TextTransformer without a class embedding "
            f"as the text tower; choose a model such as ViT-B-32"
        )
    tower = _text_tower(model)
    if tower.parts.attn_mask is None or tower.pool_type not in ("argmax", "eos"):
        raise FsckitError(
            f"model {name}: fsctrain needs a causal text tower whose feature is at the end token, "
            f"to truncate and pack texts; choose a model such as ViT-B-32"
        )
    if model.logit_bias is not None:
        raise FsckitError(
            f"model {name}: no fsctrain loss uses its logit bias (from SigLIP's loss); remove "
            f"init_logit_bias from its config, or choose another model"
        )
    # open_clip's implementation fails: it expects 3 dimensions and gets 4.
    if any(isinstance(m, Attention) and m.scaled_cosine for m in model.modules()):
        raise FsckitError(
            f"model {name}: open_clip cannot compute its scaled cosine attention; remove "
            f"scaled_cosine_attn from its config, or choose another model"
        )
    if not local:
        return
    visual = model.visual
    if not isinstance(visual, VisionTransformer) or visual.attn_pool is not None:
        raise FsckitError(
            f"model {name}: the local loss needs patch tokens in the space of the image features, "
            f"which its image tower ({type(visual).__name__}) lacks; set `local_weight` to 0"
        )
    if tower.parts.text_projection is None:
        raise FsckitError(
            f"model {name}: the local loss needs a text projection, which its text tower lacks; "
            f"set `local_weight` to 0"
        )


def encode_images(
    model: OpenClip, images: Tensor, *, local: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Encode images.

    Args:
        model: an open_clip model.
        images: uint8 [B, 3, H, W] at the model's size; normalized here, on their device.
        local: whether to return the patch tokens too.

    Returns:
        Unit features [B, D], float32; and ln_post(patch tokens)·proj [B, P, D], float32 and not
        normalized, or None.
    """
    mean, std = (
        _on_device(tuple(values), images.device)
        for values in (model.visual.image_mean, model.visual.image_std)
    )
    pixels = (images - mean) / std  # [B, 3, H, W]
    if not local:
        return _unit(model.encode_image(pixels)), None
    visual = model.visual
    output = visual.forward_intermediates(
        pixels, indices=1, normalize_intermediates=True, output_fmt="NLC"
    )
    patches = output["image_intermediates"][-1]  # [B, P, W]
    return _unit(output["image_features"]), (patches @ visual.proj).float()


def encode_texts(
    model: OpenClip, tokens: Tensor, *, local: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Encode texts; with a causal tower, L does not change the result as long as the text fits.

    Args:
        model: an open_clip model that `check_towers` accepts.
        tokens: int64 [B, L], with start and end tokens, padded on the right; L is at most
            the context length.
        local: whether to return the word tokens too.

    Returns:
        Unit features [B, D], float32; and ln_final(x)·text_projection [B, L, D], float32 and not
        normalized, or None.
    """
    tower = _text_tower(model)
    parts, length = tower.parts, tokens.shape[1]
    x = parts.token_embedding(tokens) + parts.positional_embedding[:length]  # [B, L, W]
    x = parts.ln_final(parts.transformer(x, attn_mask=parts.attn_mask[:length, :length]))
    pooled = text_global_pool(x, tokens, tower.pool_type, eos_token_id=tower.eos_id)
    features = _unit(_project(parts.text_projection, pooled))
    return features, _project(parts.text_projection, x).float() if local else None


def encode_packed(
    model: OpenClip, packing: Packing, *, local: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Encode packed texts, with the same result as `encode_texts`.

    Args:
        model: an open_clip model that `check_towers` accepts.
        packing: B rows of 1 + N texts of at most L tokens, on the model's device.
        local: whether to return the word tokens too.

    Returns:
        Unit features [B, 1 + N, D], float32; and ln_final(x)·text_projection [B, 1 + N, L, D],
        float32 and not normalized, or None. Entries of missing texts and tokens are undefined.
    """
    parts = _text_tower(model).parts
    x = parts.token_embedding(packing.tokens) + parts.positional_embedding[packing.positions]
    heads = parts.transformer.resblocks[0].attn.num_heads
    mask = torch.zeros_like(packing.visible, dtype=x.dtype).masked_fill(~packing.visible, -math.inf)
    x = parts.transformer(x, attn_mask=mask.repeat_interleave(heads, 0))  # [R, S, W]
    x = parts.ln_final(x).flatten(0, 1)
    if not local:
        return _unit(_project(parts.text_projection, F.embedding(packing.ends, x))), None
    # F.embedding, because its backward pass is faster than indexing's.
    words = _project(parts.text_projection, x).float()  # [R · S, D]
    return _unit(F.embedding(packing.ends, words)), F.embedding(packing.slots, words)


def end_positions(model: OpenClip, tokens: Tensor) -> Tensor:
    """The position of each text's end token, which holds its feature: [B] for tokens [B, L]."""
    tower = _text_tower(model)
    return (
        (tokens == tower.eos_id).int().argmax(1) if tower.pool_type == "eos" else tokens.argmax(1)
    )


def compile_towers(model: OpenClip) -> None:
    """Compile both towers with torch.compile, in place; weights keep their names.

    Transformers are compiled block by block: all blocks share one compilation, for any number and
    length of sequences, and gradient checkpointing still works. On a CPU, Inductor needs a C++
    compiler.
    """
    visual = model.visual
    blocks = [*_text_tower(model).parts.transformer.resblocks]
    blocks += visual.transformer.resblocks if isinstance(visual, VisionTransformer) else [visual]
    for block in blocks:
        block.compile(dynamic=True)


@torch.no_grad()
def embed_images(model: OpenClip, images: Tensor, batch_size: int = 256) -> Tensor:
    """Unit features [M, D] of uint8 images [M, 3, H, W], computed in batches, moved to the CPU."""
    device = next(model.parameters()).device
    parts = [encode_images(model, b.to(device))[0].cpu() for b in torch.split(images, batch_size)]
    return torch.cat(parts)


@torch.no_grad()
def embed_texts(model: OpenClip, tokens: Tensor, batch_size: int = 256) -> Tensor:
    """Unit features [M, D] of tokens [M, L], computed in batches, moved to the CPU.

    Each batch is truncated to its longest text.
    """
    device = next(model.parameters()).device
    parts = []
    for batch in torch.split(tokens, batch_size):
        longest = int(end_positions(model, batch).max()) + 1
        parts.append(encode_texts(model, batch[:, :longest].to(device))[0].cpu())
    return torch.cat(parts)


@cache
def _on_device(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Per-channel values, scaled from [0, 1] to a pixel's [0, 255]: [3, 1, 1].

    Cached, because a copy to the GPU waits for the device.
    """
    return torch.tensor(values, device=device).view(3, 1, 1) * 255


def _text_tower(model: OpenClip) -> _TextTower:
    if isinstance(model, open_clip.CLIP):
        return _TextTower(model, model.text_pool_type, model.text_eos_id)
    return _TextTower(model.text, model.text.pool_type, model.text.eos_id)


def _project(projection: nn.Linear | nn.Parameter | None, x: Tensor) -> Tensor:
    if projection is None:
        return x
    return projection(x) if isinstance(projection, nn.Linear) else x @ projection


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.float(), dim=-1)
