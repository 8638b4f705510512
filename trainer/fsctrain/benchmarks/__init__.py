"""Scores computed from a model's features."""

from fsctrain.benchmarks.choice import choice_accuracy
from fsctrain.benchmarks.retrieval import recall_at_k

__all__ = ["choice_accuracy", "recall_at_k"]
