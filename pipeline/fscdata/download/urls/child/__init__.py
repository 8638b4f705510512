"""A program for another Python, alone in its folder, which Python puts in front of its path."""
