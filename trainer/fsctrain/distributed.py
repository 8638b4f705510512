"""Ranks: the processes of a run, one per device, as torchrun starts them; one without torchrun."""

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
JOIN = 300.0  # seconds within which the ranks of a start must find each other


@dataclass(frozen=True)
class Ranks:
    """This process and the other processes of its run.

    The methods are collective calls: all ranks call them in the same order, or wait for ever.

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
        """The value of every rank, in their order; slow, so for rare use."""
        if self.size == 1:
            return [value]
        values: list[T] = [value] * self.size
        dist.all_gather_object(values, value)
        return values

    def on_first(self, work: Callable[[], T]) -> T | None:
        """The result of `work` on the first rank, None on the others.

        Raises:
            FsckitError: on all ranks alike, if `work` raises it or an OSError.
        """
        result, sentence = self._run_on_first(work)
        (sentence, *_) = self.objects(sentence)
        if sentence is not None:
            raise FsckitError(sentence)
        return result

    def from_first(self, work: Callable[[], T]) -> T:
        """As `on_first`, with the result sent to all ranks."""
        result, sentence = self.objects(self._run_on_first(work))[0]
        if sentence is not None:
            raise FsckitError(sentence)
        return cast(T, result)

    def _run_on_first(self, work: Callable[[], T]) -> tuple[T | None, str | None]:
        """The result, and the sentence of a mistake that all ranks have to raise."""
        if not self.first:
            return None, None
        try:
            return work(), None
        except FsckitError as error:
            return None, str(error)
        except OSError as error:
            return None, file_error(error)

    def numbers(self, values: list[int]) -> Tensor:
        """A few numbers of every rank: int64 [size, len(values)], on the CPU.

        They travel between CPUs (gloo), even for models on GPUs: no rank waits for its device.
        """
        mine = torch.tensor(values)
        if self.size == 1:
            return mine[None]
        numbers = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(numbers, mine)
        return torch.stack(numbers)

    def gather(self, rows: Tensor, counts: list[int]) -> Tensor:
        """The rows of all ranks, [sum(counts), ...], in their order, with gradients.

        The gradient of a rank's rows is the sum of those that all ranks compute.

        Args:
            rows: [counts[rank], ...] of this rank; the other dimensions are equal on all ranks.
            counts: the number of rows of every rank; 0 is allowed.
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
        # A copy, since all_reduce writes in place and autograd may use its tensor again.
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient[ctx.mine], None, None


@contextmanager
def open_ranks(device: str) -> Iterator[tuple[Ranks, torch.device]]:
    """Join the ranks of this run, as torchrun's variables describe them; yields also the device.

    Args:
        device: the setting: auto, cpu, cuda, cuda:1, …; with several ranks on GPUs each takes the
            GPU of its local rank.

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
        raise _not_torchrun(first_line(error)) from None
    try:
        yield Ranks(dist.get_rank(), size), chosen
    finally:
        dist.destroy_process_group()


def _store(rank: int) -> TCPStore:
    """The store through which the ranks of this start find each other.

    torchrun (2.14) keeps one store over all restarts. In it a rank that starts sooner finds the
    address of a lost one (https://github.com/pytorch/pytorch/issues/135712), and the restarted run
    hangs or fails. So at every start the first rank opens a new store, and publishes its port in
    the kept one. An older port that another rank reads before has no listener; it retries.
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
        f"WORLD_SIZE is {os.environ.get('WORLD_SIZE')}, but the ranks cannot be joined ({why}); "
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
