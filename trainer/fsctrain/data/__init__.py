"""Tars joined with negatives: one batch per step, which depends only on the seed and the step."""

from fsctrain.data.bad_images import BadImage, BadImages
from fsctrain.data.batch import Batch
from fsctrain.data.batches import Batches
from fsctrain.data.loader import WorkerDiedError
from fsctrain.data.order import Order
from fsctrain.data.source import Source, open_source
from fsctrain.data.texts import Texts
from fsctrain.data.training_data import Coverage, TrainingData, read_data

__all__ = [
    "BadImage",
    "BadImages",
    "Batch",
    "Batches",
    "Coverage",
    "Order",
    "Source",
    "Texts",
    "TrainingData",
    "WorkerDiedError",
    "open_source",
    "read_data",
]
