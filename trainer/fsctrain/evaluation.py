"""When a run is scored, which of its weights are kept, and whether it ends by its scores."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from fsctrain.checkpoint import save_checkpoint
from fsctrain.config import Config
from fsctrain.distributed import Ranks
from fsctrain.metrics import Metrics
from fsctrain.model import OpenClip
from fsctrain.run_folder import BEST, CHECKPOINT
from fsctrain.setup import Training

Evaluate = Callable[[OpenClip, int], dict[str, float]]


class Evaluation:
    """Calls an evaluation on the first rank; the others wait in their next collective call.

    With early stopping the weights of the best score are kept, and are the run's in the end.
    """

    def __init__(
        self,
        evaluate: Evaluate | None,
        every: int,
        training: Training,
        config: Config,
        ranks: Ranks,
        metrics: Metrics,
    ) -> None:
        """`evaluate` is needed on the first rank; `every` are the steps between two calls of it,
        0 for one call after the last step.
        """
        self._evaluate = evaluate
        self._every = every
        self._training = training
        self._config = config
        self._ranks = ranks
        self._metrics = metrics
        self._folder = config.out / config.name

    def due(self, step: int) -> bool:
        """Whether the model is to be scored before step number `step`."""
        return self._every > 0 and step % self._every == 0

    def score(self) -> bool:
        """Score the model; called by all ranks. Returns whether the run is to end now."""
        return bool(self._ranks.objects(self._ranks.on_first(self._score))[0])

    def save(self) -> None:
        """Write the run's checkpoint: the best weights where they were kept, else the last."""
        best = self._best(self._training.early_stopping.best_step)
        if self._config.patience is not None and best.exists():
            best.rename(self._folder / CHECKPOINT)
        else:
            self._save(self._folder / CHECKPOINT)

    def forget(self) -> None:
        """Remove weights that were the best once; to be called when the state has been saved,
        since a run that goes on from an older state may want them.
        """
        for folder in self._folder.glob(f"{BEST}-*"):
            if folder != self._best(self._training.early_stopping.best_step):
                shutil.rmtree(folder)

    def _score(self) -> bool:
        if self._evaluate is None:
            return False
        step, model = self._training.state.step, self._training.clip.model
        model.eval()
        with torch.no_grad():
            scores = self._evaluate(model, step)
        model.train()
        self._metrics.scores(step, scores)
        if self._config.patience is None:
            return False
        early_stopping = self._training.early_stopping
        if early_stopping.add(step, scores["score"]):
            self._save(self._best(step))
        return early_stopping.stops

    def _best(self, step: int) -> Path:
        return self._folder / f"{BEST}-{step:08}"

    def _save(self, folder: Path) -> None:
        if folder.exists():  # a resumed run scores a step again
            shutil.rmtree(folder)
        config, training = self._config, self._training
        save_checkpoint(
            folder,
            training.clip,
            base_digest=training.base_digest,
            pretrained=config.pretrained,
            seed=config.seed,
        )
