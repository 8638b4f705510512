"""The command `fscdata`, and `python -m fscdata`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command."""
    try:
        # Imported here because worker processes import this module but do not need the command
        # line, and so that Ctrl-C during the import also exits with 130.
        from fscdata.cli import main as run  # noqa: PLC0415

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
