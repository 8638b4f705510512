"""fsctrain: tars joined with hard negatives → a fine-tuned CLIP → its scores."""

__version__ = "0.1.0"
