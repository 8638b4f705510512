"""fsctrain: fine-tune CLIP on tars joined with hard negatives, and score it."""

__version__ = "0.1.0"
