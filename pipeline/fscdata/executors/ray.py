"""Ray: a local one that lives as long as the run, or a cluster that is there.

A task is one attempt at one item. Ray's own retries are off: they do not cover exceptions and
crashes alike, and the attempts are counted in `base`.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from fscdata.base.errors import FsckitError
from fscdata.executors.base import (
    DIED,
    GRACE,
    ONE_THREAD,
    REACH,
    REASON_CHARACTERS,
    ItemTick,
    Reply,
    attempt,
    environment,
    reason_of,
    refuse_unreachable,
    signals_held,
)

# Read at import: Ray prints notes on crashed workers to the driver's stdout whatever its
# log_to_driver says; they are outcomes here.
with environment({"RAY_DEDUP_LOGS_SKIP_REGEX": "."}):
    import ray

SETTLE = 1.0  # seconds before a task that runs is cancelled
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def refuse(address: str | None) -> None:
    """Raises FsckitError where an address is not that of a Ray head."""
    if address is not None:
        _host_and_port(address)


def _host_and_port(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not host or "/" in host or not port.isdigit():
        raise FsckitError(f"--address {address}: Ray's head has an address such as 10.0.0.1:6379")
    return host, int(port)


@contextmanager
def open_crew(
    step: bytes, tick: ItemTick, workers: int | None, address: str | None
) -> Iterator[RayCrew]:
    """Tasks of one CPU each; a session that the process has already is used, and left as it is.

    On a cluster `workers` bounds the tasks at a time. Without it twice the CPUs that are there at
    the start are asked for.
    """
    ours = not ray.is_initialized()
    if not ours and address is not None:
        raise FsckitError(f"--address {address}: this process has a Ray session; end it first")
    try:
        if ours:
            _connect(workers, address)
        bound = workers if workers is not None and address is not None else None
        crew = RayCrew(step, bound or 2 * max(1, int(ray.cluster_resources().get("CPU", 1))))
        try:
            yield crew
        finally:
            with suppress(ray.exceptions.RayError):  # it may have got the signal that stops us, too
                crew.stop()
    finally:
        if ours:
            with suppress(Exception):
                ray.shutdown()


def _connect(workers: int | None, address: str | None) -> None:
    options: dict[str, Any] = {"address": address}
    if address is None:
        options = {"address": "local", "num_cpus": workers, "include_dashboard": False}
    else:
        _refuse_dead(address)
    try:
        with environment(QUIET | ONE_THREAD), signals_held():
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # of many types
        ray.shutdown()
        where = "Ray could not be started here" if address is None else f"--address {address}"
        raise FsckitError(f"{where}: {reason_of(error)}") from None


def _refuse_dead(address: str) -> None:
    """Raises FsckitError where no Ray answers; `ray.init` itself would wait for ever."""
    refuse_unreachable(address, *_host_and_port(address))
    check = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        subprocess.run(check, check=True, capture_output=True, text=True, timeout=3 * REACH)
    except subprocess.SubprocessError as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
        raise FsckitError(
            f"--address {address}: something listens there, but no Ray of version "
            f"{ray.__version__} answers ({said[:REASON_CHARACTERS]}); give the address that 'ray "
            f"start --head' printed, and where Ray wants a token, set RAY_AUTH_MODE=token"
        ) from None


class RayCrew:
    """Tasks under way, as many as keep the workers busy; never all of them at once."""

    def __init__(self, step: bytes, window: int) -> None:
        self.window = window
        self._step = step
        self._task = ray.remote(num_cpus=1, max_retries=0)(attempt)
        self._running: dict[ray.ObjectRef[bytes], int] = {}

    def submit(self, index: int, item: bytes) -> None:
        self._running[self._task.remote(self._step, item)] = index

    def replies(self) -> list[tuple[int, Reply]]:
        ready, _ = ray.wait(list(self._running), num_returns=1)
        return [(self._running.pop(ref), _reply(ref)) for ref in ready]

    def stop(self) -> None:
        """Interrupt what runs, so that its clean-ups run; kill what has not ended in time.

        Ray aborts the whole driver where a task is cancelled in the moment in which it ends, so
        what ends by itself in `SETTLE` seconds may.
        """
        left = _wait_for(list(self._running), SETTLE)
        for ref in reversed(left):  # those that wait for a worker first: they would get one
            ray.cancel(ref)
        for ref in _wait_for(left, GRACE):
            ray.cancel(ref, force=True)


def _wait_for(refs: list[ray.ObjectRef[bytes]], seconds: float) -> list[ray.ObjectRef[bytes]]:
    """Those that have not ended by then."""
    return ray.wait(refs, num_returns=len(refs), timeout=seconds)[1] if refs else []


def _reply(ref: ray.ObjectRef[bytes]) -> Reply:
    try:
        reply: bytes = ray.get(ref)
    except ray.exceptions.OutOfMemoryError:
        return "killed by Ray (out of memory)"
    except ray.exceptions.WorkerCrashedError:
        return DIED
    except ray.exceptions.RayTaskError as error:  # not of the step: fsckit is not there, say
        return reason_of(error.cause or error)
    except ray.exceptions.RayError as error:
        return reason_of(error)
    return reply
