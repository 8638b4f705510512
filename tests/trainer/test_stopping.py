"""Due checkpoints, signals, and non-finite losses."""

from __future__ import annotations

import os
import signal
import time

import pytest
import torch

from fscdata.base.errors import FsckitError
from fsctrain.distributed import Ranks
from fsctrain.losses import Features
from fsctrain.stopping import CheckpointTimer, Health, catch_signals


def test_checkpoints_are_due_by_steps_and_by_minutes() -> None:
    by_steps = CheckpointTimer(3, None)
    assert [step for step in range(8) if by_steps.due(step)] == [3, 6]
    assert not any(CheckpointTimer(None, None).due(step) for step in range(8))
    by_minutes = CheckpointTimer(None, 0.02 / 60)
    assert not by_minutes.due(0)
    time.sleep(0.03)
    assert by_minutes.due(0)
    by_minutes.restart()
    assert not by_minutes.due(1)


def test_a_signal_is_recorded_and_the_step_continues() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with catch_signals() as stop:
        assert stop.number == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_ctrl_c_interrupts_at_once() -> None:
    with catch_signals() as stop:
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
        ([1.0, float("inf")], float("nan"), 1.0, "loss is nan at step 5, .* with samples b; "),
        ([1.0, 2.0], float("inf"), 1.0, "loss is inf at step 5, .* with samples a, b; "),
        ([1.0, 2.0], 1.0, float("inf"), "gradient norm is inf at step 5; "),
    ],
)
def test_reports_what_is_not_finite(
    images: list[float], loss: float, norm: float, words: str
) -> None:
    health = Health(Ranks(), norms=True)
    health.add(3, ["c"], features([1.0]), torch.tensor(1.0), torch.tensor(1.0))
    health.add(4, ["a", "b"], features(images), torch.tensor(loss), torch.tensor(norm))
    assert not health.failed, "numbers are read a step late"
    with pytest.raises(FsckitError, match=f"{words}the last good state is x; lower `lr`"):
        health.check("the last good state is x")
    assert health.failed


def test_accepts_an_infinite_norm_with_fp16() -> None:
    health = Health(Ranks(), norms=False)
    health.add(0, ["a"], features([1.0]), torch.tensor(1.0), torch.tensor(float("inf")))
    health.check("no state")
    assert not health.failed
