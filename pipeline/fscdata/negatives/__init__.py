"""Hard-negative captions: each caption is parsed once, and every style reads the parse."""
