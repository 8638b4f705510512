"""`python -m fsctrain`."""

from fsctrain.cli import main

main()
