"""The command `fscdata`, and `python -m fscdata`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command.

    Imported late: a worker process imports this module again and needs no command line, and
    Ctrl-C while the command is still loading ends it as it does later.
    """
    try:
        from fscdata.cli import main as run  # noqa: PLC0415

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
