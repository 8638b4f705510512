"""Merge, interpolate or export the weights of a finished run."""

from fsctrain.weights.export import export
from fsctrain.weights.interpolate import interpolate
from fsctrain.weights.merge import merge

__all__ = ["export", "interpolate", "merge"]
