"""The training loop."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from fscdata.base.errors import FsckitError
from fsctrain.checkpoint import loading_line, weights_name
from fsctrain.config import Config
from fsctrain.data import Batch
from fsctrain.distributed import Ranks, open_ranks
from fsctrain.evaluation import Evaluate, Evaluation
from fsctrain.metrics import Metrics, Record
from fsctrain.optim import learning_rate
from fsctrain.run_folder import (
    CHECKPOINT,
    METRICS,
    begin,
    find_start,
    finish,
    one_run_at_a_time,
)
from fsctrain.setup import Training, image_size, prepare
from fsctrain.stopping import Clock, Health, Stop, StoppedError, stop_asked
from fsctrain.trackers import open_trackers
from fsctrain.validation import Validation

log = logging.getLogger("fsctrain")

MAX_LOGIT_SCALE = math.log(100)

Watch = Callable[[Record, int], None]


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: where its config, metrics and checkpoint lie.
        checkpoint: the weights.
        loading_line: the Python that loads them.
        steps: how many there were.
        bad_images: pictures that were not used, by reason.
    """

    folder: Path
    checkpoint: Path
    loading_line: str
    steps: int
    bad_images: dict[str, int]


def train(
    config: Config,
    *,
    resume: bool = False,
    evaluate: Evaluate | None = None,
    evaluate_every: int = 0,
    watch: Watch | None = None,
) -> Run:
    """Fine-tune a model as `config` says, into the folder `config.out / config.name`.

    The folder gets `config.yaml`, `metrics.jsonl`, `bad_images.jsonl` (if there are any), while it
    runs `state/`, and in the end `checkpoint/`. On a CPU two runs of one config give the same
    weights, bit for bit, whether they were stopped and resumed or not. Under torchrun this is one
    of several ranks. Torch's global generator is seeded.

    Args:
        config: the settings.
        resume: go on with the run of this name where its last saved state is; a new one begins
            where there is none, and one that is finished is left as it is.
        evaluate: called on the first rank with the open_clip model (in eval mode, without
            gradients) and the number of steps done; its scores go into metrics.jsonl. A
            `config.validation` takes its place.
        evaluate_every: steps between two calls; the first comes before the first step, one
            more after the last. 0: only after the last.
        watch: called on the first rank with every record of metrics.jsonl and the number of
            steps in all.

    Raises:
        FsckitError: a mistake in the settings or the data; the loss is no longer finite.
        StoppedError: SIGTERM or Ctrl-C; the state is saved.
    """
    folder = config.out / config.name
    with ExitStack() as stack:
        ranks, device = stack.enter_context(open_ranks(config.device))
        stop = stack.enter_context(stop_asked())
        find_start(folder, config, resume=resume)  # before all that takes time
        training = prepare(config, folder, ranks, device)
        state, steps, source = training.state, training.steps, training.source
        ranks.on_first(lambda: stack.enter_context(one_run_at_a_time(folder)))
        start = ranks.objects(find_start(folder, config, resume=resume))[0]
        if start.finished:
            log.info("%s: this run is finished", folder)
            ranks.on_first(lambda: finish(folder))
            return _finished(folder, training)
        if start.state is not None:
            state.load(start.state, ranks, any_ranks=not config.stream)
            log.info("resumed at step %s of %s", f"{state.step:,}", f"{steps:,}")
        if config.validation is not None:
            evaluate_every = config.validate_every or source.steps_per_epoch
            size = image_size(training.clip.model)
            evaluate = ranks.on_first(lambda: Validation(training.clip, config, size))
        ranks.on_first(lambda: begin(folder, config, start))
        metrics = _open_metrics(stack, config, training, ranks, watch, resumes=start.resumes)
        evaluation = Evaluation(evaluate, evaluate_every, training, config, ranks, metrics)
        health = Health(ranks, norms=not training.fp16)
        keeper = _Keeper(training, evaluation, ranks, health, stop, config, saved=start.state)
        first = state.step

        training.clip.model.train()
        batches = source.batches(state.step, steps, pin_memory=device.type == "cuda")
        for batch, waited in _timed(batches):
            step = state.step
            # What takes long may be killed: nothing is lost then.
            rows = keeper.agree(batch, save=evaluation.due(step) and step > first)
            if evaluation.due(step):
                keeper.check()
                if evaluation.score():
                    break

            started = time.perf_counter()
            rate = learning_rate(step, steps, config)
            if sum(rows):  # else every picture was bad
                losses, features = training.gradients(batch, rows, training.scaler.scale)
                norm = _update(training, rate, config.grad_clip_norm)
                health.note(step, batch.keys, features, losses["loss"], norm)
                times = {"waited": waited, "took": time.perf_counter() - started}
                metrics.add(losses, features, tokens=_tokens(batch), grad_norm=norm, **times)
            state.step += 1
            if state.step % config.log_every == 0 or state.step == steps:
                metrics.log(state.step, step // source.steps_per_epoch, rate)

        keeper.check()
        training.bad_images.check_some_good()
        if state.step == steps:
            evaluation.score()
        ranks.on_first(partial(_close, evaluation, folder))
        return _finished(folder, training)


def _close(evaluation: Evaluation, folder: Path) -> None:
    evaluation.save()
    finish(folder)


def _open_metrics(
    stack: ExitStack,
    config: Config,
    training: Training,
    ranks: Ranks,
    watch: Watch | None,
    *,
    resumes: bool,
) -> Metrics:
    """The run's metrics, which go to its trackers and to `watch` too."""
    folder = config.out / config.name
    resumed_at = training.state.step if resumes else None
    readers: list[Callable[[Record], object]] = []
    if watch is not None:
        readers.append(lambda record: watch(record, training.steps))
    try:
        opened = open_trackers(config, folder, resumed_at)
        track = ranks.on_first(lambda: stack.enter_context(opened))
    except FsckitError:
        if not resumes:  # the folder of a run that never began would be in the way of the next
            ranks.on_first(lambda: shutil.rmtree(folder))
        raise
    if track is not None:
        readers.append(track)
    return Metrics(
        folder / METRICS,
        config.styles,
        lambda record: [read(record) for read in readers],
        reduce=ranks.sum,
        reduce_max=ranks.max,
        writes=ranks.first,
        resumed_at=resumed_at,
    )


class _Keeper:
    """Before every step: what all ranks have to agree on before one of them goes on or leaves."""

    def __init__(
        self,
        training: Training,
        evaluation: Evaluation,
        ranks: Ranks,
        health: Health,
        stop: Stop,
        config: Config,
        saved: Path | None,
    ) -> None:
        self._training = training
        self._evaluation = evaluation
        self._folder = config.out / config.name
        self._ranks = ranks
        self._health = health
        self._stop = stop
        self._clock = Clock(config.checkpoint_every, config.checkpoint_minutes)
        self._saved = saved

    def agree(self, batch: Batch, *, save: bool) -> list[int]:
        """Save if it is time, leave if a signal came; returns how many rows every rank has.

        Args:
            batch: this rank's part of the next step.
            save: whether it is time anyway.

        Raises:
            FsckitError: a loss is not finite, too many pictures are bad.
            StoppedError: a signal came; the state is saved.
        """
        due = save or self._clock.due(self._training.state.step)
        mine = [len(batch), len(batch.bad), self._stop.number, due, self._health.broken]
        told = self._ranks.numbers([int(number) for number in mine])  # [ranks, 5]
        if told[:, 4].any():
            self.check()
        number = int(told[:, 2].max())
        if number or told[0, 3]:  # the first rank's clock is the run's
            self.check()
            self._saved = self._training.state.save(self._folder, self._ranks)
            self._ranks.on_first(self._evaluation.forget)
            self._clock.restart()
        if number:
            raise StoppedError(number)
        bad = batch.bad
        if told[:, 1].any():
            bad = [image for part in self._ranks.objects(batch.bad) for image in part]
        rows: list[int] = told[:, 0].tolist()
        self._training.bad_images.count(bad, sum(rows) + len(bad))
        return rows

    def check(self) -> None:
        """Raises FsckitError on all ranks, where the last step's numbers are not finite."""
        saved = self._saved
        where = f"the last good state is {saved}" if saved else "no state had been saved yet"
        self._health.check(where)


def _update(training: Training, rate: float, max_norm: float | None) -> Tensor:
    """One step of the optimizer, at this learning rate; the logit scale is kept in its range.

    Returns the norm of the gradient before it was clipped; the gradient is cleared.
    """
    optimizer, scaler = training.optimizer, training.scaler
    scaler.unscale_(optimizer)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    if max_norm is not None:
        clip_grads_with_norm_(parameters, max_norm, norm)
    for group in optimizer.param_groups:
        group["lr"] = rate
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    logit_scale = training.clip.model.logit_scale
    if logit_scale.requires_grad:  # LoRA's is frozen, and its base is not to change
        with torch.no_grad():
            logit_scale.clamp_(0, MAX_LOGIT_SCALE)
    return norm


def _timed(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float]]:
    """Each batch with the seconds that were spent waiting for it."""
    started = time.perf_counter()
    for batch in batches:
        yield batch, time.perf_counter() - started
        started = time.perf_counter()


def _tokens(batch: Batch) -> int:
    """How many tokens the batch's texts have."""
    return int((batch.tokens != 0).sum() + (batch.negative_tokens != 0).sum())


def _finished(folder: Path, training: Training) -> Run:
    weights = folder / CHECKPOINT / weights_name(training.clip)
    line = loading_line(training.clip, weights)
    return Run(folder, weights, line, training.steps, dict(training.bad_images.reasons))
