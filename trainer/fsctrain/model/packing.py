"""Captions and their negatives in few sequences, almost without padding and no token twice.

A causal text tower gives a token the same output whatever comes after it. So a negative needs only
its tokens from the first one that differs from its caption's; they look back on the tokens that
both share. A row is its caption followed by such branches, and short rows share a sequence.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Slots of a sequence at least: rows fill longer sequences better, but attention costs the square.
SLOTS = 96


@dataclass(frozen=True)
class Packing:
    """Where the tokens of B rows of 1 + N texts lie in R sequences of S slots.

    Attributes:
        tokens: int64 [R, S], 0 in a slot that is not used.
        positions: int64 [R, S], a token's position in its text.
        visible: bool [R, S, S], to which slots (last) a slot attends; to itself at least.
        slots: int64 [B, 1 + N, L], a token's slot among all R·S; where there is no token, that of
            the row's first.
        ends: int64 [B, 1 + N], the slots of the texts' last tokens.
    """

    tokens: Tensor
    positions: Tensor
    visible: Tensor
    slots: Tensor
    ends: Tensor

    def to(self, device: torch.device) -> Packing:
        """On a device, by copies that nobody waits for."""
        return Packing(**{k: t.to(device, non_blocking=True) for k, t in vars(self).items()})


def pack_texts(texts: Tensor, lengths: Tensor) -> Packing:
    """Lay out rows of texts that begin alike.

    Args:
        texts: int64 [B, 1 + N, L], the caption first; B is at least 1.
        lengths: int64 [B, 1 + N], the tokens of each, 0 where there is no such text.
    """
    position = torch.arange(texts.shape[2], device=texts.device).expand_as(texts)
    alike = (texts == texts[:, :1]).long().cumprod(2).sum(2)  # [B, 1 + N]
    shared = torch.minimum(alike, lengths)  # tokens that stand in the caption's slots
    shared[:, 0] = 0
    own = lengths - shared
    starts = own.cumsum(1) - own  # of a text's own tokens in its row

    sizes: list[int] = own.sum(1).tolist()
    size = -(-max(SLOTS, *sizes) // 8) * 8  # a multiple of 8, as fast GPU kernels like it
    places, count = _fill(sizes, size)
    sequence, root = texts.new_tensor(places).T[..., None, None]  # [B, 1, 1] each
    shared, starts = shared[..., None], starts[..., None]

    there, common = position < lengths[..., None], position < shared
    begin = root + torch.where(common, 0, starts)  # of the caption or branch that a token is in
    fork = root + torch.where(common, 0, shared)  # where a branch left the caption
    slots = sequence * size + begin + position - torch.where(common, 0, shared)
    slots = torch.where(there, slots, sequence * size + root)

    def lay(values: Tensor) -> Tensor:
        """[B, 1 + N, L], equal for equal slots, into [R, S]."""
        laid = values.new_zeros(count * size)
        laid[slots] = torch.where(there, values, values[:, :1, :1])
        return laid.view(count, size)

    slot = torch.arange(size, device=texts.device)
    in_branch = (lay(begin)[..., None] <= slot) & (slot <= slot[:, None])
    before_fork = (lay(root.expand_as(texts))[..., None] <= slot) & (slot < lay(fork)[..., None])
    ends = slots.gather(2, (lengths[..., None] - 1).clamp_min(0))[..., 0]
    return Packing(lay(texts), lay(position), in_branch | before_fork, slots, ends)


def _fill(sizes: list[int], capacity: int) -> tuple[list[tuple[int, int]], int]:
    """The bin and the place in it of each size, and how many bins: best fit, the largest first."""
    places = [(0, 0)] * len(sizes)
    with_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    count = 0
    for row in sorted(range(len(sizes)), key=lambda row: -sizes[row]):
        room = next((r for r in range(sizes[row], capacity + 1) if with_room[r]), capacity)
        if with_room[room]:
            number = with_room[room].pop()
        else:
            number, count = count, count + 1
        places[row] = number, capacity - room
        with_room[room - sizes[row]].append(number)
    return places, count
