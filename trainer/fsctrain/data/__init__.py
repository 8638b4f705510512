"""Tars joined with negatives: one batch a step, a function of the seed and the step alone."""

from fsctrain.data.bad_images import BadImage, BadImages
from fsctrain.data.batch import Batch
from fsctrain.data.loader import Batches, load_batches
from fsctrain.data.order import Order
from fsctrain.data.source import Source, open_source
from fsctrain.data.tables import TrainingData, read_data
from fsctrain.data.texts import Texts

__all__ = [
    "BadImage",
    "BadImages",
    "Batch",
    "Batches",
    "Order",
    "Source",
    "Texts",
    "TrainingData",
    "load_batches",
    "open_source",
    "read_data",
]
