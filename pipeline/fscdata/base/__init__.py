"""What both packages stand on: errors, text, paths, files, locks, threads, the command shell.

Nothing here knows of captions or models. Each module has one job and is imported by its name.
"""
