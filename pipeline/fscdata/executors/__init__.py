"""Engines that run a step over items: processes of this machine, Ray, Spark.

A step knows nothing of its engine, and an engine nothing of its steps.
"""

from __future__ import annotations

import importlib
from functools import partial

from fscdata.base.errors import FsckitError
from fscdata.base.extras import requires
from fscdata.executors.base import ATTEMPTS, Executor, Outcome, Step, Tick, usable_cpus

EXECUTORS = ("local", "ray", "spark")

__all__ = [
    "ATTEMPTS",
    "EXECUTORS",
    "Executor",
    "Outcome",
    "Step",
    "Tick",
    "create_executor",
    "usable_cpus",
]


def create_executor(name: str, workers: int | None = None, address: str | None = None) -> Executor:
    """The executor of that name; only its own module is imported, and nothing starts yet.

    Args:
        name: one of `EXECUTORS`.
        workers: items at a time; by default the CPUs that this process may use, or all those of
            the cluster at `address`. With `local`, 0 is this process and no other.
        address: a cluster that runs already: `HOST:PORT` of Ray's head, `spark://HOST:PORT`.

    Raises:
        FsckitError: no such executor, its extra or Java is missing, or an option it cannot take.
    """
    if name not in EXECUTORS:
        raise FsckitError(f"--executor {name}: there is none; there are {', '.join(EXECUTORS)}")
    least = 0 if name == "local" else 1
    if workers is not None and workers < least:
        raise FsckitError(f"--workers {workers}: with --executor {name} it takes {least} or more")
    if address is not None and name == "local":
        raise FsckitError("--address: a cluster's; add --executor ray or --executor spark")
    with requires(name, f"executor '{name}'"):
        engine = importlib.import_module(f"{__name__}.{name}")
    engine.refuse(address)
    if workers is None and address is None:
        workers = usable_cpus()
    return Executor(partial(engine.open_crew, workers=workers, address=address))
