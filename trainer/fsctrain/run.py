"""An opened run: everything that the training loop needs, from its ranks to its metrics."""

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
from fsctrain.metrics import Metrics, Record
from fsctrain.run_folder import METRICS, Start, begin, find_start
from fsctrain.scoring import Evaluate, ValidationScorer
from fsctrain.setup import Training, image_size, prepare
from fsctrain.stopping import CheckpointTimer, Health, StopRequest, catch_signals
from fsctrain.trackers import open_trackers

log = logging.getLogger("fsctrain")

Watch = Callable[[Record, int], None]


@dataclass(frozen=True)
class Run(Training):
    """The parts of a run, with its folder, its ranks and what watches over it.

    Attributes:
        config: the settings.
        folder: the run's folder, locked.
        ranks, device: this process among the others, and its device.
        finished: whether an earlier process has finished the run; the other parts are idle then.
        first_step: the number of steps done before this process.
        stop: records a signal.
        timer: tells when a checkpoint is due.
        health: checks that losses and gradients are finite.
        metrics: writes metrics.jsonl, and tells the trackers and `watch`.
        evaluate: scores the model; needed on the first rank only.
        score_every: steps between two scores; 0 scores only after the last step.
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
    """Open a new run, or one to resume; the arguments are those of `train`.

    Raises:
        FsckitError: a mistake in the settings, the data or the run's folder; a mistake of the first
            rank alone is raised on all ranks.
    """
    folder = config.out / config.name
    with ExitStack() as stack:
        ranks, device = stack.enter_context(open_ranks(config.device))
        # Before all that takes time, so that Ctrl-C during a long start ends it cleanly.
        stop = stack.enter_context(catch_signals())
        # A mistake about the folder is reported before weights are downloaded and data is read.
        # One rank looks, since a folder can change between two looks; all act on what it found.
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
        # The first thing that is written: a mistake above leaves no folder.
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
    """The run's metrics; every record goes to the trackers and to `watch` too."""
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
