"""Code that both packages share: errors, text, paths, files, locks, threads, the command shell.

Nothing here knows about captions or models. Each module has one job and is imported by name.
"""
