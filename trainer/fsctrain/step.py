"""Losses and gradients of a step's whole batch, across ranks and micro-batches.

Each rank holds a part of the batch, and may encode it in micro-batches. A contrastive loss needs
the features of all rows at once, so features are gathered across ranks and cached across
micro-batches (GradCache: Gao et al., "Scaling deep contrastive learning batch size under memory
limited setup", RepL4NLP 2021).

The loss is computed outside DistributedDataParallel, on features gathered in one collective call.
Each rank computes its part of a sum, so the result does not depend on how the rows are spread.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, replace

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fsctrain.config import Config
from fsctrain.data import Batch
from fsctrain.distributed import Ranks
from fsctrain.forward import forward
from fsctrain.losses import Features, GlobalBatch, Loss
from fsctrain.model import OpenClip

Scale = Callable[[Tensor], Tensor]


class Encoder(nn.Module):
    """`forward` as a module that DistributedDataParallel can wrap."""

    def __init__(self, model: OpenClip, *, local: bool) -> None:
        super().__init__()
        self.model = model
        self.local = local

    def forward(self, batch: Batch) -> Features:
        return forward(self.model, batch, local=self.local)


class Gradients:
    """Accumulates the gradient of the whole batch's loss in the model's parameters."""

    def __init__(
        self,
        model: OpenClip,
        compute_loss: Loss,
        config: Config,
        ranks: Ranks,
        autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`autocast` returns the context that the model runs in; losses are computed outside it."""
        self.compute_loss = compute_loss
        self.config = config
        self.ranks = ranks
        self.autocast = autocast
        self.device = model.logit_scale.device
        self.encoder: nn.Module = Encoder(model, local=config.local_weight > 0)
        if ranks.size > 1:
            with warnings.catch_warnings():
                # torch renamed the option; the oldest supported version has only the old name.
                warnings.simplefilter("ignore", FutureWarning)
                # Broadcasting buffers is a collective call in every forward pass, and ranks may
                # run different numbers of micro-batches.
                self.encoder = DistributedDataParallel(
                    self.encoder, broadcast_buffers=False, gradient_as_bucket_view=True
                )

    def __call__(
        self, batch: Batch, rows: list[int], scale: Scale | None = None
    ) -> tuple[dict[str, Tensor], Features]:
        """Add to the gradients; returns this rank's part of the losses and its features.

        Args:
            batch: this rank's part, on the CPU.
            rows: the number of rows on each rank.
            scale: scales the loss before the backward pass, for float16.
        """
        size = self.config.micro_batch_size
        # The largest rank decides, so that all ranks take the same branch: they must make their
        # collective calls in the same order.
        if size is not None and max(rows) > size:
            starts = range(0, max(1, len(batch)), size)
            return self._cached([_rows(batch, i, i + size) for i in starts], rows, scale)
        features = self._encode(batch)
        losses = self._losses(features, rows)
        self._backward(losses["loss"], scale)
        return losses, features

    def _cached(
        self, parts: list[Batch], rows: list[int], scale: Scale | None
    ) -> tuple[dict[str, Tensor], Features]:
        """GradCache: encode all parts without gradients, compute the gradient of the features,
        then encode each part again and backpropagate that gradient through the model.
        """
        states, encoded = [], []
        with torch.no_grad():
            for part in parts:
                states.append(_random_state(self.device))
                encoded.append(self._encode(part))
        features = _leaf(_concatenate(encoded))
        losses = self._losses(features, rows)
        self._backward(losses["loss"], scale)
        gradients = _split_gradients(features, [len(part) for part in parts])
        after = _random_state(self.device)
        for number, (part, state, gradient) in enumerate(
            zip(parts, states, gradients, strict=True)
        ):
            _set_random_state(state)  # the second encoding uses the same dropout as the first
            last = number == len(parts) - 1
            # Ranks exchange gradients once, after the last part.
            with nullcontext() if last else self._unreduced():
                encoded_part = self._encode(part)
                outputs = {name: getattr(encoded_part, name) for name in gradient}
                if last and features.logit_scale.grad is not None:
                    outputs["logit_scale"] = encoded_part.logit_scale
                    gradient["logit_scale"] = features.logit_scale.grad
                # A frozen tower's outputs have no gradient.
                names = [name for name, output in outputs.items() if output.requires_grad]
                torch.autograd.backward(
                    [outputs[name] for name in names], [gradient[name] for name in names]
                )
        _set_random_state(after)
        return losses, features

    def _encode(self, batch: Batch) -> Features:
        with self.autocast():
            features: Features = self.encoder(batch)
        return features

    def _losses(self, features: Features, rows: list[int]) -> dict[str, Tensor]:
        global_batch = gather(features, rows, self.ranks, shard=self.config.shard_loss)
        return self.compute_loss(features, global_batch, self.config)

    def _backward(self, loss: Tensor, scale: Scale | None) -> None:
        # DistributedDataParallel averages over the ranks, but their parts must be summed.
        loss = loss * self.ranks.size
        (scale(loss) if scale else loss).backward()  # type: ignore[no-untyped-call]

    def _unreduced(self) -> AbstractContextManager[None]:
        if isinstance(self.encoder, DistributedDataParallel):
            return self.encoder.no_sync()
        return nullcontext()


def gather(features: Features, rows: list[int], ranks: Ranks, *, shard: bool) -> GlobalBatch:
    """The features of all ranks, gathered in one collective call, with gradients.

    Args:
        features: the features of this rank's rows.
        rows: the number of rows on each rank.
        ranks: the ranks.
        shard: whether each rank computes only the loss of its own rows.
    """
    if ranks.size == 1:
        return GlobalBatch.single_rank(features)
    mask = features.negative_mask  # [B, N]
    styles = mask.shape[1]
    ids = _to_columns(features.image_ids, mask)
    columns = [features.images, features.texts, features.negatives.flatten(1), mask.float(), ids]
    width = features.images.shape[1]
    # One call for all features: its backward pass then precedes both towers', so the ranks make
    # their collective calls in the same order with any number of micro-batches.
    gathered = ranks.gather(torch.cat(columns, dim=1), rows)  # [G, (2 + N)·D + N + 4]
    images, texts, negatives, present, ids = torch.split_with_sizes(
        gathered, [width, width, styles * width, styles, ids.shape[1]], dim=1
    )
    negative_mask = present.detach() > 0
    first = sum(rows[: ranks.rank])
    return GlobalBatch(
        images=images,
        texts=texts,
        negatives=negatives.reshape(len(negatives), styles, width),
        negative_mask=negative_mask,
        rows=slice(first, first + rows[ranks.rank]) if shard else slice(0, len(images)),
        share=1.0 if shard else 1 / ranks.size,
        rows_with_negatives=negative_mask.any(1).sum(),
        image_ids=_from_columns(ids),
    )


_BITS, _PIECES = 16, 4  # float32 holds integers of 24 bits exactly


def _to_columns(image_ids: Tensor | None, mask: Tensor) -> Tensor:
    """Ids [B] as float32 columns [B, 4] of 16 bits each; [B, 0] without ids."""
    if image_ids is None:
        return mask.new_empty(len(mask), 0, dtype=torch.float32)
    pieces = [(image_ids >> (_BITS * i)) & (2**_BITS - 1) for i in range(_PIECES)]
    return torch.stack(pieces, dim=1).float()


def _from_columns(columns: Tensor) -> Tensor | None:
    if not columns.shape[1]:
        return None
    pieces = columns.detach().round().long().unbind(1)
    ids = pieces[0].clone()
    for number, piece in enumerate(pieces[1:], 1):
        ids |= piece << (_BITS * number)
    return ids


def _rows(batch: Batch, start: int, stop: int) -> Batch:
    """Rows start … stop − 1 of a batch; its texts keep their length."""
    names = ("images", "tokens", "negative_tokens", "negative_mask", "keys", "image_ids")
    return replace(batch, **{name: getattr(batch, name)[start:stop] for name in names})


_CACHED = ("images", "texts", "negatives", "image_tokens", "text_tokens")


def _concatenate(parts: list[Features]) -> Features:
    """Concatenate the features of consecutive micro-batches."""
    values = {}
    for field in fields(Features):
        tensors = [getattr(part, field.name) for part in parts]
        shared = tensors[0] is None or field.name == "logit_scale"
        values[field.name] = tensors[0] if shared else torch.cat(tensors)
    return Features(**values)


def _leaf(features: Features) -> Features:
    """Detach the features into leaves that collect gradients."""
    values = {name: getattr(features, name) for name in (*_CACHED, "logit_scale")}
    return replace(
        features,
        **{name: t.detach().requires_grad_() for name, t in values.items() if t is not None},
    )


def _split_gradients(features: Features, sizes: list[int]) -> list[dict[str, Tensor]]:
    """The leaves' gradients, split into micro-batches; leaves without one are skipped."""
    gradients: list[dict[str, Tensor]] = [{} for _ in sizes]
    for name in _CACHED:
        leaf = getattr(features, name)
        if leaf is not None and leaf.grad is not None:
            parts: tuple[Tensor, ...] = leaf.grad.split(sizes)  # type: ignore[no-untyped-call]
            for part, gradient in zip(gradients, parts, strict=True):
                part[name] = gradient
    return gradients


def _random_state(device: torch.device) -> list[Tensor]:
    """The states of torch's generators, which dropout draws from."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


def _set_random_state(states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1])
