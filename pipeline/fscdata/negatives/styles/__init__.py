"""One module a style, found by its name."""
