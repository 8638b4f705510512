"""Ranks: the processes of a run, one a device, as torchrun starts them; without it there is one."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it is documented

from fscdata.base.errors import FsckitError, first_line

T = TypeVar("T")

STORE_KEY = "fsckit/store"
JOIN = 300.0  # seconds that the ranks of a start have to find each other


@dataclass(frozen=True)
class Ranks:
    """This process among those of its run.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes and prints."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, without gradient."""
        return self._reduced(tensor, dist.ReduceOp.SUM)

    def max(self, tensor: Tensor) -> Tensor:
        """The largest of all ranks, element by element, without gradient."""
        return self._reduced(tensor, dist.ReduceOp.MAX)

    def _reduced(self, tensor: Tensor, operation: Any) -> Tensor:
        if self.size > 1:
            tensor = tensor.detach().clone()
            dist.all_reduce(tensor, operation)
        return tensor

    def objects(self, value: T) -> list[T]:
        """What every rank gives, in their order; for rare things, since it is slow."""
        if self.size == 1:
            return [value]
        values: list[T] = [value] * self.size
        dist.all_gather_object(values, value)
        return values

    def on_first(self, work: Callable[[], T]) -> T | None:
        """What `work` gives on the first rank, None on the others.

        Raises:
            FsckitError: on all ranks alike, where it fails by a mistake or by a file.
        """
        result, sentence = None, None
        if self.first:
            try:
                result = work()
            except FsckitError as error:
                sentence = str(error)
            except OSError as error:
                sentence = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        (sentence, *_) = self.objects(sentence)
        if sentence is not None:
            raise FsckitError(sentence)
        return result

    def numbers(self, values: list[int]) -> Tensor:
        """A few numbers of every rank: int64 [size, len(values)], on the CPU.

        It goes by way of the CPU, so that no rank has to wait for its device.
        """
        mine = torch.tensor(values)
        if self.size == 1:
            return mine[None]
        everyone = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(everyone, mine)
        return torch.stack(everyone)

    def gather(self, rows: Tensor, counts: list[int]) -> Tensor:
        """The rows of all ranks, [sum(counts), ...], in their order, with their gradients.

        The gradient of a rank's rows is the sum of what all ranks make of them.

        Args:
            rows: [counts[rank], ...] of this rank; the other dimensions are alike on all ranks.
            counts: how many rows every rank has; 0 is allowed.
        """
        if self.size == 1:
            return rows
        gathered: Tensor = _Gather.apply(rows, counts, self.rank)  # type: ignore[no-untyped-call]
        return gathered


class _Gather(torch.autograd.Function):
    """all_gather of uneven numbers of rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int], rank: int) -> Tensor:
        ctx.mine = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        # A copy: autograd may need what it handed over once more.
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient[ctx.mine], None, None


@contextmanager
def open_ranks(device: str) -> Iterator[tuple[Ranks, torch.device]]:
    """This process's place in its run and its device, as torchrun's variables say.

    Args:
        device: the setting: auto, cpu, cuda, cuda:1, …; of several ranks on GPUs each takes the
            one of its local number.

    Raises:
        FsckitError: no such device here; variables that torchrun would not have set.
    """
    size = _size()
    chosen = _device(device, ranks=size)
    if size == 1:
        yield Ranks(), chosen
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
    try:
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            rank = int(os.environ["RANK"])
            dist.init_process_group(backend, store=_store(rank), rank=rank, world_size=size)
        else:
            dist.init_process_group(backend)
    except (ValueError, RuntimeError) as error:
        raise _not_torchrun(first_line(error)) from None
    try:
        yield Ranks(dist.get_rank(), size), chosen
    finally:
        dist.destroy_process_group()


def _store(rank: int) -> TCPStore:
    """Where the ranks of this start find each other.

    torchrun (2.14) keeps one store over all restarts, and in it a rank that was lost is still to be
    found (https://github.com/pytorch/pytorch/issues/135712). So the first rank makes a new one and
    leaves its port there; what another finds before that leads to a port where nobody listens.
    """
    host = os.environ["MASTER_ADDR"]
    kept = TCPStore(host, int(os.environ["MASTER_PORT"]), is_master=False)
    if rank == 0:
        store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
        kept.set(STORE_KEY, str(store.port))
        return store
    deadline = time.monotonic() + JOIN
    while True:
        port = int(kept.get(STORE_KEY))
        try:
            socket.create_connection((host, port), timeout=JOIN).close()
        except OSError:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the first rank does not answer at {host}:{port}") from None
            time.sleep(0.1)
        else:
            return TCPStore(host, port, is_master=False)


def _size() -> int:
    """The number of ranks."""
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdecimal() or int(text) < 1:
        raise _not_torchrun("it is no number of ranks")
    return int(text)


def _not_torchrun(why: str) -> FsckitError:
    return FsckitError(
        f"WORLD_SIZE is {os.environ.get('WORLD_SIZE')}, but the ranks cannot be joined ({why}); "
        f"start several ranks with torchrun, and unset WORLD_SIZE for one"
    )


def _device(name: str, *, ranks: int) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if ranks > 1 and name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise FsckitError(f"--device {name}: torch finds no such device here; give cpu")
    if ranks > 1 and device.type == "mps":
        raise FsckitError(f"--device {name}: it has one rank only; run without torchrun")
    return device
