"""Hard-negative captions: one parse a caption, and every style drawn from it."""
