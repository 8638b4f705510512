"""Reasons to interrupt a run between steps: a signal, a due checkpoint, a NaN loss."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

import torch
from torch import Tensor

from fscdata.base.errors import FsckitError
from fscdata.base.text import printable
from fsctrain.distributed import Ranks
from fsctrain.losses import Features

SIGNALS = (signal.SIGTERM, signal.SIGINT)
KEYS_SHOWN = 8


class StoppedError(Exception):
    """A signal ended a run between two steps; its state is saved.

    Attributes:
        number: the signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class StopRequest:
    """Records a signal. `number` is the signal's number, or 0 before one arrives."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The signal handler; a second Ctrl-C interrupts at once."""
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number


@contextmanager
def catch_signals() -> Iterator[StopRequest]:
    """Record SIGTERM and Ctrl-C inside the block instead of acting on them.

    Python allows signal handlers only in the main thread; elsewhere nothing is recorded.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class CheckpointTimer:
    """Tells when a checkpoint is due, by steps or by minutes."""

    def __init__(self, steps: int | None, minutes: float | None) -> None:
        self._steps = steps
        self._seconds = None if minutes is None else 60 * minutes
        self._last = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether a checkpoint is due before step number `step`."""
        by_time = self._seconds is not None and time.monotonic() - self._last >= self._seconds
        return by_time or bool(step and self._steps and step % self._steps == 0)

    def restart(self) -> None:
        self._last = time.monotonic()


class _Pending(NamedTuple):
    """A step whose numbers are being copied from the device."""

    step: int
    keys: list[str]
    finite: Tensor  # bool [B], on the device: whether a row's features are finite
    numbers: Tensor  # loss and norm, on the CPU once `copied` is done
    copied: torch.cuda.Event | None


class _NotFinite(NamedTuple):
    """A step with a non-finite loss or norm."""

    step: int
    what: str
    sources: list[str]  # keys of this rank's rows whose own features are not finite
    keys: list[str]  # keys of all of this rank's rows


class Health:
    """Checks that the loss and the gradient norm of every step are finite.

    They are read a step late, while the device works on the next step, so no step waits for the
    check. Call `check` before saving or scoring, since it also reads the last step.
    """

    def __init__(self, ranks: Ranks, *, norms: bool) -> None:
        """`norms`: whether to check the norm too; with fp16 it may be infinite."""
        self._ranks = ranks
        self._norms = norms
        self._pending: _Pending | None = None
        self._failure: _NotFinite | None = None

    @torch.no_grad()
    def add(
        self, step: int, keys: list[str], features: Features, loss: Tensor, grad_norm: Tensor
    ) -> None:
        """Record a step, and read the previous one.

        Args:
            step: its number, from 0.
            keys: the sample keys of this rank's rows.
            features: the features of this rank's rows.
            loss: this rank's part of the loss.
            grad_norm: the norm of the whole gradient.
        """
        self._read()
        finite = torch.isfinite((features.images + features.texts).sum(1))  # [B]
        on_device = torch.stack([loss.detach().float(), grad_norm.detach().float()])
        numbers = on_device.to("cpu", non_blocking=True)
        copied = torch.cuda.Event() if on_device.is_cuda else None  # type: ignore[no-untyped-call]
        if copied is not None:
            copied.record()
        self._pending = _Pending(step, keys, finite, numbers, copied)

    def _read(self) -> None:
        """Read the pending step's numbers; waits for the device."""
        if self._pending is None or self._failure is not None:
            return
        step, keys, finite, numbers, copied = self._pending
        if copied is not None:
            copied.synchronize()
        loss, grad_norm = numbers.tolist()
        if not math.isfinite(loss):
            sources = [key for key, fine in zip(keys, finite.tolist(), strict=True) if not fine]
            self._failure = _NotFinite(step, f"loss is {loss}", sources, keys)
        elif self._norms and not math.isfinite(grad_norm):
            self._failure = _NotFinite(step, f"gradient norm is {grad_norm}", [], [])
        self._pending = None

    @property
    def failed(self) -> bool:
        """Whether a step read so far failed on this rank."""
        return self._failure is not None

    def check(self, last_state: str) -> None:
        """Read the last step too, on all ranks; a collective call.

        Args:
            last_state: says where the last saved state is.

        Raises:
            FsckitError: on all ranks, if a step failed on one of them.
        """
        self._read()
        failures = [f for f in self._ranks.objects(self._failure) if f is not None]
        if not failures:
            return
        step = min(failure.step for failure in failures)
        first = [failure for failure in failures if failure.step == step]
        # The rows that caused it, if known; else all rows of the step.
        sources = [key for failure in first for key in failure.sources]
        keys = sources or [key for failure in first for key in failure.keys]
        shown = ", ".join(printable(key) for key in keys[:KEYS_SHOWN])
        more = f" and {len(keys) - KEYS_SHOWN} more" if len(keys) > KEYS_SHOWN else ""
        where = f", in the batch with samples {shown}{more}" if keys else ""
        raise FsckitError(
            f"the {first[0].what} at step {step + 1}{where}; {last_state}; lower `lr`, or set "
            f"`grad_clip_norm`"
        )
