"""Compute the features that the losses use from a batch."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from fsctrain.data import Batch
from fsctrain.losses import Features
from fsctrain.model import OpenClip, encode_images, encode_packed, end_positions, pack_texts


def forward(model: OpenClip, batch: Batch, *, local: bool) -> Features:
    """Encode a batch. Captions and negatives go through the text tower together, without padding,
    and shared prefixes only once.

    Args:
        model: an open_clip model that `check_towers` accepts.
        batch: B rows, on the CPU, so that texts are packed without waiting for the model's
            device. If B is 0, the towers still run, so that every parameter with a gradient on
            other ranks has a zero gradient here.
        local: whether to return the tokens that the local loss compares.
    """
    if not len(batch.images):
        return _no_rows(model, batch, local=local)
    texts = torch.cat([batch.tokens[:, None], batch.negative_tokens], dim=1)  # [B, 1 + N, L]
    present = F.pad(batch.negative_mask, (1, 0), value=True)  # [B, 1 + N]
    lengths = (end_positions(model, texts.flatten(0, 1)) + 1).view_as(present) * present
    position = torch.arange(texts.shape[2])
    inside = (position > 0) & (position < lengths[..., None])  # [B, 1 + N, L]
    device = model.logit_scale.device
    # Convolutions are faster with the channels first in memory.
    pixels = batch.images.to(device, non_blocking=True).contiguous()
    images, image_tokens = encode_images(model, pixels, local=local)
    packing = pack_texts(texts, lengths).to(device)
    features, text_tokens = encode_packed(model, packing, local=local)

    text_mask = inside.to(device, non_blocking=True) if local else None
    negative_mask = batch.negative_mask.to(device, non_blocking=True)
    return Features(
        images=images,
        texts=features[:, 0],
        negatives=features[:, 1:] * negative_mask[..., None],
        negative_mask=negative_mask,
        logit_scale=model.logit_scale.exp(),
        image_tokens=image_tokens,
        text_tokens=text_tokens,
        text_token_mask=text_mask,
        image_ids=batch.image_ids.to(device, non_blocking=True),
    )


def _no_rows(model: OpenClip, batch: Batch, *, local: bool) -> Features:
    """Features of 0 rows: encode one row and slice it away."""
    _, styles, length = batch.negative_tokens.shape
    one = replace(
        batch,
        images=batch.images.new_zeros(1, *batch.images.shape[1:]),
        tokens=batch.tokens.new_zeros(1, max(length, 1)),
        negative_tokens=batch.negative_tokens.new_zeros(1, styles, max(length, 1)),
        negative_mask=batch.negative_mask.new_zeros(1, styles),
        image_ids=batch.image_ids.new_zeros(1),
    )
    features = vars(forward(model, one, local=local))
    rows = {name: value[:0] for name, value in features.items() if value is not None and value.ndim}
    return Features(**(features | rows))
