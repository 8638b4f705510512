"""Ranks: the processes of a run, one per device under torchrun; a single one without it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it is documented

from fscdata.base.errors import FsckitError, file_error, first_line

T = TypeVar("T")

STORE_KEY = "fsckit/store"
JOIN = 300.0  # seconds for the ranks to find each other at startup


@dataclass(frozen=True)
class Ranks:
    """This process and the other processes of its run.

    The methods are collective calls: all ranks must make them in the same order, or they hang.

    Attributes:
        rank: this process's number, from 0.
        size: the number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the first rank, which writes and prints."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, without gradient."""
        return self._reduced(tensor, dist.ReduceOp.SUM)

    def max(self, tensor: Tensor) -> Tensor:
        """The maximum over all ranks, element by element, without gradient."""
        return self._reduced(tensor, dist.ReduceOp.MAX)

    def _reduced(self, tensor: Tensor, operation: Any) -> Tensor:
        if self.size > 1:
            tensor = tensor.detach().clone()
            dist.all_reduce(tensor, operation)
        return tensor

    def objects(self, value: T) -> list[T]:
        """Every rank's value, in rank order; slow, so use it rarely."""
        if self.size == 1:
            return [value]
        values: list[T] = [value] * self.size
        dist.all_gather_object(values, value)
        return values

    def on_first(self, work: Callable[[], T]) -> T | None:
        """The result of `work` on the first rank, None on the others.

        Raises:
            FsckitError: on all ranks, if `work` raises it or an OSError.
        """
        result, mistake = self._run_on_first(work)
        (mistake, *_) = self.objects(mistake)
        if mistake is not None:
            raise mistake
        return result

    def from_first(self, work: Callable[[], T]) -> T:
        """Like `on_first`, but returns the result on all ranks."""
        result, mistake = self.objects(self._run_on_first(work))[0]
        if mistake is not None:
            raise mistake
        return cast(T, result)

    def _run_on_first(self, work: Callable[[], T]) -> tuple[T | None, FsckitError | None]:
        """The result, and an error that all ranks must raise."""
        if not self.first:
            return None, None
        try:
            return work(), None
        except FsckitError as error:
            return None, error
        except OSError as error:
            return None, FsckitError(file_error(error))

    def numbers(self, values: list[int]) -> Tensor:
        """Gather a few numbers from every rank: int64 [size, len(values)], on the CPU.

        They are exchanged between CPUs (gloo), so no rank waits for its device.
        """
        mine = torch.tensor(values)
        if self.size == 1:
            return mine[None]
        numbers = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(numbers, mine)
        return torch.stack(numbers)

    def gather(self, rows: Tensor, counts: list[int]) -> Tensor:
        """The rows of all ranks, [sum(counts), ...], in rank order, with gradients.

        The gradient of a rank's rows is summed over all ranks.

        Args:
            rows: [counts[rank], ...] of this rank; the other dimensions are equal on all ranks.
            counts: the number of rows on each rank; 0 is allowed.
        """
        if self.size == 1:
            return rows
        gathered: Tensor = _Gather.apply(rows, counts, self.rank)  # type: ignore[no-untyped-call]
        return gathered


class _Gather(torch.autograd.Function):
    """all_gather of different numbers of rows."""

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
        # A copy, since all_reduce writes in place and autograd may reuse the tensor.
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient[ctx.mine], None, None


@contextmanager
def open_ranks(device: str) -> Iterator[tuple[Ranks, torch.device]]:
    """Join the ranks described by torchrun's variables; yields them and the device.

    Args:
        device: the setting: auto, cpu, cuda, cuda:1, …; several ranks on GPUs each use the GPU of
            their local rank.

    Raises:
        FsckitError: this machine has no such device, or the variables are not torchrun's.
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
        raise _not_torchrun(f"but the ranks cannot connect ({first_line(error)})") from None
    try:
        yield Ranks(dist.get_rank(), size), chosen
    finally:
        dist.destroy_process_group()


def _store(rank: int) -> TCPStore:
    """The store that the ranks use to find each other at this start.

    torchrun (2.14) keeps one store across restarts. In it, a rank that starts early can find the
    address of a lost rank (https://github.com/pytorch/pytorch/issues/135712), and the restarted run
    hangs or fails. So at every start the first rank opens a new store and publishes its port in
    torchrun's store. A rank that reads an outdated port finds no listener there, and retries.
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
                raise RuntimeError(f"no answer from the first rank at {host}:{port}") from None
            time.sleep(0.1)
        else:
            return TCPStore(host, port, is_master=False)


def _size() -> int:
    """The number of ranks."""
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdecimal() or int(text) < 1:
        raise _not_torchrun("not a number of ranks")
    return int(text)


def _not_torchrun(why: str) -> FsckitError:
    return FsckitError(
        f"WORLD_SIZE is {os.environ.get('WORLD_SIZE')}, {why}; "
        f"start several ranks with torchrun, or unset WORLD_SIZE for one rank"
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
        raise FsckitError(f"`device` {name}: torch finds no such device on this machine; use cpu")
    if ranks > 1 and device.type == "mps":
        raise FsckitError(f"`device` {name} supports one rank only; run without torchrun")
    return device
