"""`python -m fscdata`."""

from fscdata.cli import main

main()
