"""Pack captions and their negatives into few sequences, with shared prefixes and little padding.

A causal text tower's output for a token does not depend on later tokens. So a negative needs only
the tokens after the prefix that it shares with its caption, and these attend to that prefix. A row
is a tree: its caption followed by such branches. Several short rows share a sequence, and an
attention mask keeps them apart. The sequences run through open_clip's own transformer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Minimum slots per sequence: longer sequences waste less padding, but attention is quadratic.
SLOTS = 96


@dataclass(frozen=True)
class Packing:
    """B rows of 1 + N texts of up to L tokens, packed into R sequences of S slots.

    Attributes:
        tokens: int64 [R, S], 0 in unused slots.
        positions: int64 [R, S], each token's position in its text.
        visible: bool [R, S, S], the slots (last dimension) a slot attends to, at least itself.
        slots: int64 [B, 1 + N, L], each token's slot among all R·S; for a missing token, the slot
            of the row's first token.
        ends: int64 [B, 1 + N], the slot of each text's last token.
    """

    tokens: Tensor
    positions: Tensor
    visible: Tensor
    slots: Tensor
    ends: Tensor

    def to(self, device: torch.device) -> Packing:
        """Copy to a device without waiting for the copies."""
        return Packing(**{k: t.to(device, non_blocking=True) for k, t in vars(self).items()})


def pack_texts(texts: Tensor, lengths: Tensor) -> Packing:
    """Pack rows of texts that share prefixes.

    Args:
        texts: int64 [B, 1 + N, L], the caption first; B is at least 1.
        lengths: int64 [B, 1 + N], the number of tokens of each text, 0 for a missing text.
    """
    position = torch.arange(texts.shape[2], device=texts.device).expand_as(texts)
    matching = (texts == texts[:, :1]).long().cumprod(2).sum(2)  # [B, 1 + N]
    shared = torch.minimum(matching, lengths)  # tokens that use the caption's slots
    shared[:, 0] = 0
    own = lengths - shared
    starts = own.cumsum(1) - own  # offset of a text's own tokens in its row

    sizes: list[int] = own.sum(1).tolist()
    size = -(-max(SLOTS, *sizes) // 8) * 8  # fast GPU kernels need a multiple of 8
    places, count = _fill(sizes, size)
    sequence, root = texts.new_tensor(places).T[..., None, None]  # [B, 1, 1] each
    shared, starts = shared[..., None], starts[..., None]

    exists, common = position < lengths[..., None], position < shared
    begin = root + torch.where(common, 0, starts)  # start of the token's caption or branch
    fork = root + torch.where(common, 0, shared)  # where its branch leaves the caption
    slots = sequence * size + begin + position - torch.where(common, 0, shared)
    slots = torch.where(exists, slots, sequence * size + root)

    def scatter(values: Tensor) -> Tensor:
        """[B, 1 + N, L], equal for equal slots, into [R, S]."""
        scattered = values.new_zeros(count * size)
        scattered[slots] = torch.where(exists, values, values[:, :1, :1])
        return scattered.view(count, size)

    slot = torch.arange(size, device=texts.device)
    in_branch = (scatter(begin)[..., None] <= slot) & (slot <= slot[:, None])
    before_fork = (scatter(root.expand_as(texts))[..., None] <= slot) & (
        slot < scatter(fork)[..., None]
    )
    ends = slots.gather(2, (lengths[..., None] - 1).clamp_min(0))[..., 0]
    return Packing(scatter(texts), scatter(position), in_branch | before_fork, slots, ends)


def _fill(sizes: list[int], capacity: int) -> tuple[list[tuple[int, int]], int]:
    """Best-fit-decreasing bin packing: each size's (bin, offset), and the number of bins."""
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
