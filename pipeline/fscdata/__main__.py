"""The command `fscdata`, and `python -m fscdata`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command."""
    try:
        # Imported here because worker processes import this module again and need no command line,
        # and because Ctrl-C during this import must end the command as it does later.
        from fscdata.cli import main as run  # noqa: PLC0415

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
