"""`torchrun rank_poison.py KEY WORDS…`: runs fsctrain with WORDS; KEY's image gives NaN."""

from __future__ import annotations

import sys

import fsctrain.step
from fsctrain.cli import main
from fsctrain.data import Batch
from fsctrain.losses import Features
from fsctrain.model import OpenClip

forward = fsctrain.step.forward
key = sys.argv.pop(1)


def poisoned(model: OpenClip, batch: Batch, *, local: bool) -> Features:
    features = forward(model, batch, local=local)
    if key in batch.keys:
        features.images[batch.keys.index(key)].data.fill_(float("nan"))
    return features


fsctrain.step.forward = poisoned
main()
