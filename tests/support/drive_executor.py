"""A driver process: drive_executor.py EXECUTOR FOLDER STEP ITEMS [ADDRESS]; prints outcomes."""

from __future__ import annotations

import signal
import sys

from fscdata.base.errors import FsckitError
from fscdata.executors import create_executor
from support import executor_steps


def main() -> None:
    name, folder, step, items, *address = sys.argv[1:]
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        executor = create_executor(name, 2, *address)
        for outcome in executor.run(
            getattr(executor_steps, step)(folder), [int(item) for item in items.split(",")]
        ):
            assert before == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
            print(outcome.index, outcome.reason, outcome.attempts, flush=True)
    except FsckitError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
