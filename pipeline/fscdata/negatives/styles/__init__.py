"""One module per style, found by its name."""
