"""Tars joined with negatives: one batch a step, a function of the seed and the step alone."""

from fsctrain.data.bad_images import BadImage, BadImages
from fsctrain.data.loader import Batch, Batches, load_batches
from fsctrain.data.tables import Texts, TrainingData, read_data

__all__ = [
    "BadImage",
    "BadImages",
    "Batch",
    "Batches",
    "Texts",
    "TrainingData",
    "load_batches",
    "read_data",
]
