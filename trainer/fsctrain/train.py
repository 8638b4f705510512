"""The training loop."""

from __future__ import annotations

import logging
import math
import shlex
import shutil
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from fscdata.base.errors import FsckitError
from fsctrain.checkpoint import loading_line, save_checkpoint, weights_name
from fsctrain.config import Config
from fsctrain.data import Batch, WorkerDiedError
from fsctrain.optim import learning_rate
from fsctrain.records import Watch
from fsctrain.run import Run, open_run
from fsctrain.run_folder import clean_up
from fsctrain.saved_states import CHECKPOINT, CONFIG
from fsctrain.scoring import Evaluate
from fsctrain.stopping import StoppedError

log = logging.getLogger("fsctrain")

MAX_LOGIT_SCALE = math.log(100)  # as in CLIP, to keep training stable


@dataclass(frozen=True)
class TrainResult:
    """A finished run.

    Attributes:
        folder: contains its config, metrics and checkpoint.
        checkpoint: the weights file.
        loading_line: the line of Python that loads them.
        steps: the run's number of steps.
        bad_images: number of unusable images, by reason.
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
) -> TrainResult:
    """Fine-tune a model and write it to `config.out / config.name`.

    The folder contains `config.yaml`, `metrics.jsonl`, `bad_images.jsonl` (if any), `state/` during
    the run, and `checkpoint/` at the end. On a CPU, two runs with one config give bit-identical
    weights, even if stopped and resumed. Under torchrun, this process is one of several ranks.
    Seeds torch's global generator.

    Args:
        config: the settings.
        resume: resume from the last saved state, or start if there is none; a finished run does
            not change.
        evaluate: called on the first rank with the open_clip model (in eval mode, without
            gradients) and the number of steps done; its scores are written to metrics.jsonl.
            `config.validation` replaces it with scores on that data set.
        evaluate_every: steps between calls, starting before the first step; one more call follows
            the last step. 0 calls it only after the last step.
        watch: called on the first rank with every record of metrics.jsonl and the run's number of
            steps.

    Raises:
        FsckitError: invalid settings or data, the loss is no longer finite, or a process that loads
            data has died; in the last case the state is saved.
        StoppedError: SIGTERM or Ctrl-C; the state is saved.
    """
    with open_run(
        config, resume=resume, evaluate=evaluate, evaluate_every=evaluate_every, watch=watch
    ) as run:
        if run.finished:
            log.info("%s: this run is already finished", run.folder)
            return finish(run)
        run.clip.model.train()
        with closing(timed_batches(run)) as batches:
            for batch, waited in batches:
                # If one rank left the loop alone, the others would hang: all decide together.
                agreed = agree(run, batch)
                if agreed.failed or agreed.save or agreed.score:
                    # Check first, so that NaN never reaches a saved state or the best weights.
                    fail_if_not_finite(run)
                if agreed.save:
                    # Before scoring, which is slow: a kill during it would lose the steps.
                    save(run)
                if agreed.signal:
                    # After the save, so that no step is lost.
                    raise StoppedError(agreed.signal)
                if agreed.lost or isinstance(batch, WorkerDiedError):
                    raise worker_died(run, batch)
                # After the save: this batch is not done yet, and a resume counts it again.
                count_bad_images(run, batch, agreed)
                if agreed.score and score(run):
                    break
                step(run, batch, waited, agreed)
                log_metrics(run)
        # Losses are read a step late, so the last one is still unread.
        fail_if_not_finite(run)
        run.bad_images.check_some_good()
        if run.state.step == run.steps:
            if run.config.validation is not None:
                save(run)  # before scoring, as above
            score(run)
        return finish(run)


@dataclass(frozen=True)
class Agreement:
    """What all ranks agree on before a step.

    Attributes:
        rows: the number of rows on each rank.
        bad: whether any rank has bad images.
        failed: whether any rank has read a non-finite loss or gradient.
        signal: the number of a signal that any rank received, or 0.
        lost: whether any rank has lost a process that loads its data.
        score: whether to score the model before the step.
        save: whether to save the state before the step.
    """

    rows: list[int]
    bad: bool
    failed: bool
    signal: int
    lost: bool
    score: bool
    save: bool


def agree(run: Run, batch: Batch | WorkerDiedError) -> Agreement:
    """Agree with all ranks on what to do before the next step, in one collective call.

    The numbers are exchanged between CPUs, so no rank waits for its device. A non-finite loss is
    therefore noticed a step late.
    """
    done = run.state.step
    due = run.timer.due(done)
    died = isinstance(batch, WorkerDiedError)
    size = (0, 0) if isinstance(batch, WorkerDiedError) else (len(batch), len(batch.bad))
    mine = [*size, run.health.failed, run.stop.number, died, due]
    table = run.ranks.numbers([int(number) for number in mine])  # [ranks, 6]
    rows, bad, failed, signals, deaths, saves = table.unbind(1)
    signal, lost = int(signals.max()), bool(deaths.any())
    score = run.score_every > 0 and done % run.score_every == 0
    return Agreement(
        rows=rows.tolist(),
        bad=bool(bad.any()),
        failed=bool(failed.any()),
        signal=signal,
        lost=lost,
        score=score,
        # Clocks differ, so the first rank decides. At the first step there is nothing new to save.
        save=bool(saves[0]) or signal > 0 or ((score or lost) and done > run.first_step),
    )


def fail_if_not_finite(run: Run) -> None:
    """Raise FsckitError on all ranks if any rank had a non-finite loss or gradient."""
    saved = run.state.saved
    run.health.check(f"the last good state is {saved}" if saved else "no state has been saved yet")


def save(run: Run) -> None:
    """Save the state that `resume` continues from."""
    run.state.save(run.folder, run.ranks)
    run.ranks.on_first(run.early_stopping.remove_older_weights)
    run.timer.restart()


def worker_died(run: Run, found: object) -> FsckitError:
    """The error of all ranks after one lost a process that loads its data; a collective call.

    Args:
        run: the run, whose state is saved.
        found: the error on the rank that noticed the death; ignored if it is something else.
    """
    mine = found if isinstance(found, WorkerDiedError) else None
    death = next(error for error in run.ranks.objects(mine) if error is not None)
    saved = run.state.saved
    kept = f"the last saved state is {saved}" if saved else "no step was done"
    config = shlex.quote(str(run.folder / CONFIG))
    resume = f"'fsctrain run --recipe {config} --resume'"
    if run.ranks.size > 1:
        resume = "the same command and `resume`"
    return FsckitError(f"{death}; {kept}; continue with {resume}")


def count_bad_images(run: Run, batch: Batch, agreed: Agreement) -> None:
    """Count the bad images of all ranks; raises FsckitError on all ranks above the limit."""
    bad = batch.bad
    if agreed.bad:  # rare, since gathering objects is slow
        bad = [image for images in run.ranks.objects(batch.bad) for image in images]
    run.bad_images.count(bad, sum(agreed.rows) + len(bad))


def score(run: Run) -> bool:
    """Score the model on the first rank; returns on all ranks whether the run should end."""
    try:
        return run.ranks.from_first(lambda: _score(run))
    except WorkerDiedError as death:
        raise worker_died(run, death) from None


def _score(run: Run) -> bool:
    if run.evaluate is None:
        return False
    done, model = run.state.step, run.clip.model
    model.eval()
    with torch.no_grad():
        scores = run.evaluate(model, done)
    model.train()
    run.metrics.scores(done, scores)
    if run.config.patience is None:
        return False
    if run.early_stopping.add(done, scores["score"]):
        _save_weights(run, run.early_stopping.best_weights)
    return run.early_stopping.stops


def step(run: Run, batch: Batch, waited: float, agreed: Agreement) -> None:
    """Take a step on this rank's part of a batch, after waiting `waited` seconds for it."""
    started = time.perf_counter()
    if sum(agreed.rows):  # else every image of the batch was bad
        losses, features = run.gradients(batch, agreed.rows, run.scaler.scale)
        norm = _update(run, learning_rate(run.state.step, run.steps, run.config))
        run.health.add(run.state.step, batch.keys, features, losses["loss"], norm)
        run.metrics.add(
            losses,
            features,
            tokens=int((batch.tokens != 0).sum() + (batch.negative_tokens != 0).sum()),
            waited=waited,
            took=time.perf_counter() - started,
            grad_norm=norm,
        )
    run.state.step += 1


def _update(run: Run, rate: float) -> Tensor:
    """Take an optimizer step at a learning rate, and clear the gradients.

    Returns the gradient norm before clipping.
    """
    optimizer, scaler, max_norm = run.optimizer, run.scaler, run.config.grad_clip_norm
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
    logit_scale = run.clip.model.logit_scale
    if logit_scale.requires_grad:  # with LoRA it is frozen, and the base must not change
        with torch.no_grad():
            logit_scale.clamp_(0, MAX_LOGIT_SCALE)
    return norm


def log_metrics(run: Run) -> None:
    """Write a line of metrics if one is due."""
    done = run.state.step
    if done % run.config.log_every == 0 or done == run.steps:
        rate = learning_rate(done - 1, run.steps, run.config)
        run.metrics.log(done, (done - 1) // run.source.steps_per_epoch, rate)


def finish(run: Run) -> TrainResult:
    """Write the checkpoint, unless an earlier process did, and remove the saved state."""
    run.ranks.on_first(lambda: _finish(run))
    checkpoint = run.folder / CHECKPOINT / weights_name(run.clip)
    return TrainResult(
        folder=run.folder,
        checkpoint=checkpoint,
        loading_line=loading_line(run.clip, checkpoint),
        steps=run.steps,
        bad_images=dict(run.bad_images.reasons),
    )


def _finish(run: Run) -> None:
    best = run.early_stopping.best_weights
    if not run.finished:
        if run.config.patience is not None and best.exists():
            best.rename(run.folder / CHECKPOINT)
        else:
            _save_weights(run, run.folder / CHECKPOINT)
    # Last, because a killed run needs its state until the checkpoint is complete.
    clean_up(run.folder)


def _save_weights(run: Run, folder: Path) -> None:
    if folder.exists():  # a resumed run scores this step again
        shutil.rmtree(folder)
    save_checkpoint(
        folder,
        run.clip,
        base_digest=run.base_digest,
        pretrained=run.config.pretrained,
        seed=run.config.seed,
    )


def timed_batches(run: Run) -> Generator[tuple[Batch | WorkerDiedError, float]]:
    """This rank's remaining batches, each with the seconds spent waiting for it.

    A WorkerDiedError takes a batch's place, so that all ranks learn of it before they raise it.
    """
    pin_memory = run.device.type == "cuda"
    batches = run.source.batches(run.state.step, run.steps, pin_memory)
    # A fixed number: all ranks must end together, even if a worker dies after the last batch.
    for _ in range(run.state.step, run.steps):
        started = time.perf_counter()
        try:
            batch: Batch | WorkerDiedError = next(batches)
        except WorkerDiedError as death:
            batch = death
        yield batch, time.perf_counter() - started
