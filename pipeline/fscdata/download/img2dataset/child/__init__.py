"""A program for another Python environment."""
