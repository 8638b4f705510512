"""When a checkpoint is due, what a signal does, and how numbers that are not finite end a run."""

from __future__ import annotations

import os
import signal
import time

import pytest
import torch

from fscdata.base.errors import FsckitError
from fsctrain.distributed import Ranks
from fsctrain.losses import Features
from fsctrain.stopping import Clock, Health, stop_asked


def test_by_steps_and_by_minutes() -> None:
    by_steps = Clock(3, None)
    assert [step for step in range(8) if by_steps.due(step)] == [3, 6]
    assert not any(Clock(None, None).due(step) for step in range(8))
    by_minutes = Clock(None, 0.02 / 60)
    assert not by_minutes.due(0)
    time.sleep(0.03)
    assert by_minutes.due(0)
    by_minutes.restart()
    assert not by_minutes.due(1)


def test_signals_wait_for_the_end_of_a_step() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_asked() as stop:
        assert stop.number == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_ctrl_c_does_not_wait() -> None:
    with stop_asked() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def features(images: list[float]) -> Features:
    column = torch.tensor(images)[:, None]
    nothing = torch.zeros(len(images), 0, 1)
    return Features(column, torch.zeros_like(column), nothing, nothing[..., 0].bool(), column.sum())


@pytest.mark.parametrize(
    ("images", "loss", "norm", "words"),
    [
        ([1.0, float("inf")], float("nan"), 1.0, "loss is nan at step 5, .* of the samples b; "),
        ([1.0, 2.0], float("inf"), 1.0, "loss is inf at step 5, .* of the samples a, b; "),
        ([1.0, 2.0], 1.0, float("inf"), "gradient's norm is inf at step 5; "),
    ],
)
def test_what_is_not_finite(images: list[float], loss: float, norm: float, words: str) -> None:
    health = Health(Ranks(), norms=True)
    health.note(3, ["c"], features([1.0]), torch.tensor(1.0), torch.tensor(1.0))
    health.note(4, ["a", "b"], features(images), torch.tensor(loss), torch.tensor(norm))
    assert not health.broken, "it is read a step late"
    with pytest.raises(FsckitError, match=f"{words}the last good state is x; lower --lr"):
        health.check("the last good state is x")
    assert health.broken


def test_a_scaled_gradient_may_be_infinite() -> None:
    health = Health(Ranks(), norms=False)
    health.note(0, ["a"], features([1.0]), torch.tensor(1.0), torch.tensor(float("inf")))
    health.check("no state")
    assert not health.broken
