"""An open run: everything the training loop needs, from ranks to metrics."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from fscdata.base.errors import FsckitError
from fsctrain.config import Config
from fsctrain.distributed import Ranks, open_ranks
from fsctrain.metrics import Metrics
from fsctrain.records import Record, Watch
from fsctrain.run_folder import METRICS, Start, begin, find_start
from fsctrain.scoring import Evaluate, ValidationScorer
from fsctrain.setup import Training, image_size, prepare
from fsctrain.stopping import CheckpointTimer, Health, StopRequest, catch_signals
from fsctrain.trackers import open_trackers

log = logging.getLogger("fsctrain")


@dataclass(frozen=True)
class Run(Training):
    """The parts of a run, with its folder, its ranks and its monitoring.

    Attributes:
        config: the settings.
        folder: the run's folder, locked.
        ranks, device: this process's rank and device.
        finished: whether an earlier process finished the run; the other parts are then unused.
        first_step: the number of steps done before this process started.
        stop: records a signal.
        timer: tells when a checkpoint is due.
        health: checks that losses and gradients are finite.
        metrics: writes metrics.jsonl and notifies the trackers and `watch`.
        evaluate: scores the model; needed on the first rank only.
        score_every: steps between scores; 0 scores only after the last step.
    """

    config: Config
    folder: Path
    ranks: Ranks
    device: torch.device
    finished: bool
    first_step: int
    stop: StopRequest
    timer: CheckpointTimer
    health: Health
    metrics: Metrics
    evaluate: Evaluate | None
    score_every: int


@contextmanager
def open_run(
    config: Config,
    *,
    resume: bool = False,
    evaluate: Evaluate | None = None,
    evaluate_every: int = 0,
    watch: Watch | None = None,
) -> Iterator[Run]:
    """Open a new run or resume one; takes the same arguments as `train`.

    Raises:
        FsckitError: invalid settings, data or run folder; an error on the first rank is raised on
            all ranks.
    """
    folder = config.out / config.name
    with ExitStack() as stack:
        ranks, device = stack.enter_context(open_ranks(config.device))
        # Before anything slow, so that Ctrl-C during a long startup ends it cleanly.
        stop = stack.enter_context(catch_signals())
        # Report errors in the folder before downloading weights and reading data. Only one rank
        # looks, since the folder can change meanwhile; all ranks act on its result.
        start = ranks.from_first(lambda: find_start(folder, config, stack, resume=resume))
        training = prepare(config, folder, ranks, device)
        if start.state is not None and not start.finished:
            # A stream's order depends on the number of ranks.
            training.state.load(start.state, ranks, any_ranks=not config.stream)
            done, steps = training.state.step, training.steps
            log.info("resumed at step %s of %s", f"{done:,}", f"{steps:,}")
        if config.validation is not None and not start.finished:
            evaluate_every = config.validate_every or training.source.steps_per_epoch
            size = image_size(training.clip.model)
            evaluate = ranks.on_first(lambda: ValidationScorer(training.clip, config, size))
        # Nothing is written before this: an error above leaves no folder.
        if not start.finished:
            ranks.on_first(lambda: begin(folder, config, start, stack))
        yield Run(
            **vars(training),
            config=config,
            folder=folder,
            ranks=ranks,
            device=device,
            finished=start.finished,
            first_step=training.state.step,
            stop=stop,
            timer=CheckpointTimer(config.checkpoint_every, config.checkpoint_minutes),
            health=Health(ranks, norms=not training.fp16),
            metrics=_open_metrics(stack, config, training, ranks, start, watch),
            evaluate=evaluate,
            score_every=evaluate_every,
        )


def _open_metrics(
    stack: ExitStack,
    config: Config,
    training: Training,
    ranks: Ranks,
    start: Start,
    watch: Watch | None,
) -> Metrics:
    """The run's metrics; every record also goes to the trackers and to `watch`."""
    folder = config.out / config.name
    if start.finished:
        return Metrics(folder / METRICS, config.styles, lambda record: None, ranks=ranks)
    resumed_at = training.state.step if start.resumes else None
    readers: list[Callable[[Record], object]] = []
    if watch is not None:
        readers.append(lambda record: watch(record, training.steps))
    try:
        opened = open_trackers(config, folder, resumed_at)
        track = ranks.on_first(lambda: stack.enter_context(opened))
    except FsckitError:
        if not start.resumes:  # the empty folder would block the same run without the tracker
            ranks.on_first(lambda: shutil.rmtree(folder))
        raise
    if track is not None:
        readers.append(track)
    return Metrics(
        folder / METRICS,
        config.styles,
        lambda record: [read(record) for read in readers],
        ranks=ranks,
        resumed_at=resumed_at,
    )
