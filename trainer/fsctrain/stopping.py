"""How a run ends before its last step: by a signal, or by numbers that are not finite.

Ranks must agree: one that leaves while others go on has them wait for ever.
"""

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
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Stop:
    """Whether a signal asked for the end. `number` is the signal's, 0 for none."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The handler; a second Ctrl-C does not wait for the end of the step."""
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number


@contextmanager
def stop_asked() -> Iterator[Stop]:
    """Inside the block SIGTERM and Ctrl-C are noted and do nothing; in the main thread only."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Clock:
    """When a checkpoint is due: every so many steps, or minutes."""

    def __init__(self, steps: int | None, minutes: float | None) -> None:
        self._steps = steps
        self._seconds = None if minutes is None else 60 * minutes
        self._last = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether one is due before step number `step`."""
        by_time = self._seconds is not None and time.monotonic() - self._last >= self._seconds
        return by_time or bool(step and self._steps and step % self._steps == 0)

    def restart(self) -> None:
        self._last = time.monotonic()


class _Noted(NamedTuple):
    """A step whose numbers are on their way from the device."""

    step: int
    keys: list[str]
    finite: Tensor  # bool [B], on the device: whether a row's features are
    numbers: Tensor  # loss and norm, on the CPU when `copied` has happened
    copied: torch.cuda.Event | None


class _Broken(NamedTuple):
    """A step whose numbers are not finite: which, what of it, and this rank's samples."""

    step: int
    what: str
    begun: list[str]  # those whose own features are not finite
    keys: list[str]


class Health:
    """Whether the numbers of the steps are finite.

    They are read a step late, when the device has computed them while it works on the next: nothing
    waits. What is saved is checked first.
    """

    def __init__(self, ranks: Ranks, *, norms: bool) -> None:
        """`norms`: whether the gradient's norm has to be finite too, which fp16's need not be."""
        self._ranks = ranks
        self._norms = norms
        self._latest: _Noted | None = None
        self._broken: _Broken | None = None

    @torch.no_grad()
    def note(
        self, step: int, keys: list[str], features: Features, loss: Tensor, grad_norm: Tensor
    ) -> None:
        """Take note of a step, and read the one before.

        Args:
            step: its number, from 0.
            keys: the samples of this rank's rows.
            features: those of its rows.
            loss: its part of the loss.
            grad_norm: the norm of the whole gradient.
        """
        self.read()
        finite = torch.isfinite((features.images + features.texts).sum(1))  # [B]
        on_device = torch.stack([loss.detach().float(), grad_norm.detach().float()])
        numbers = on_device.to("cpu", non_blocking=True)
        copied = torch.cuda.Event() if on_device.is_cuda else None  # type: ignore[no-untyped-call]
        if copied is not None:
            copied.record()
        self._latest = _Noted(step, keys, finite, numbers, copied)

    def read(self) -> None:
        """Read the latest step's numbers; waits for the device."""
        if self._latest is None or self._broken is not None:
            return
        step, keys, finite, numbers, copied = self._latest
        if copied is not None:
            copied.synchronize()
        loss, grad_norm = numbers.tolist()
        if not math.isfinite(loss):
            # The rows that it began with where they are known, else all.
            begun = [key for key, fine in zip(keys, finite.tolist(), strict=True) if not fine]
            self._broken = _Broken(step, f"loss is {loss}", begun, keys)
        elif self._norms and not math.isfinite(grad_norm):
            self._broken = _Broken(step, f"gradient's norm is {grad_norm}", [], [])
        self._latest = None

    @property
    def broken(self) -> bool:
        """Whether a step that was read was not finite on this rank."""
        return self._broken is not None

    def check(self, saved: str) -> None:
        """Read the latest step, on all ranks alike.

        Args:
            saved: where the last good state is, in words.

        Raises:
            FsckitError: on all ranks, where one of them is broken.
        """
        self.read()
        found = [broken for broken in self._ranks.objects(self._broken) if broken is not None]
        if not found:
            return
        step = min(broken.step for broken in found)
        first = [broken for broken in found if broken.step == step]
        begun = [key for broken in first for key in broken.begun]
        keys = begun or [key for broken in first for key in broken.keys]
        shown = ", ".join(printable(key) for key in keys[:KEYS_SHOWN])
        more = f" and {len(keys) - KEYS_SHOWN} more" if len(keys) > KEYS_SHOWN else ""
        where = f", in the batch of the samples {shown}{more}" if keys else ""
        raise FsckitError(
            f"the {first[0].what} at step {step + 1}{where}; {saved}; lower --lr, or set "
            f"--grad-clip-norm"
        )
