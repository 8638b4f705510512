"""Executors run a step over items: in processes on this machine, on Ray or on Spark.

Steps and executors know nothing about each other.
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
    """Create an executor by name; imports only its module, and starts nothing yet.

    Args:
        name: one of `EXECUTORS`.
        workers: items to run in parallel; by default the CPUs that this process may use, or all
            CPUs of the cluster at `address`. With `local`, 0 runs in this process.
        address: a running cluster: `HOST:PORT` of Ray's head, or `spark://HOST:PORT`.

    Raises:
        FsckitError: the executor is unknown or does not accept an argument, or its extra or Java is
            missing.
    """
    if name not in EXECUTORS:
        raise FsckitError(f"unknown executor '{name}'; choose local, ray or spark")
    least = 0 if name == "local" else 1
    if workers is not None and workers < least:
        raise FsckitError(f"`workers` {workers}: executor '{name}' needs at least {least}")
    if address is not None and name == "local":
        raise FsckitError("`address` needs a cluster; add `executor` ray or spark")
    with requires(name, f"executor '{name}'"):
        engine = importlib.import_module(f"{__name__}.{name}")
    engine.check(address)
    if workers is None and address is None:
        workers = usable_cpus()
    return Executor(partial(engine.open_crew, workers=workers, address=address))
