"""Ray: a local session that ends with the run, or a running cluster.

Each task is one attempt at one item. Ray's own retries are off: they treat exceptions and crashes
differently, and `base` counts the attempts.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from fscdata.base.errors import FsckitError, last_line
from fscdata.executors.base import (
    CONNECT_TIMEOUT,
    DIED,
    GRACE,
    ONE_THREAD,
    ItemTick,
    Reply,
    attempt,
    environment,
    reason_of,
    refuse_unreachable,
    signals_deferred,
)

# Ray reads this at import. It prints messages about crashed workers to the driver's stdout even
# with log_to_driver=False; here they are outcomes.
with environment({"RAY_DEDUP_LOGS_SKIP_REGEX": "."}):
    import ray

SETTLE = 1.0  # seconds for running tasks to end by themselves before they are cancelled
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def check(address: str | None) -> None:
    """Raise FsckitError if the address is not HOST:PORT."""
    if address is not None:
        _host_and_port(address)


def _host_and_port(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not host or "/" in host or not port.isdigit():
        raise FsckitError(f"`address` {address}: expected HOST:PORT, such as 10.0.0.1:6379")
    return host, int(port)


@contextmanager
def open_crew(
    step: bytes, tick: ItemTick, workers: int | None, address: str | None
) -> Iterator[RayCrew]:
    """Tasks with one CPU each; if this process has a Ray session, it is used and left running.

    On a cluster, `workers` limits the tasks submitted at a time; the default is twice the cluster's
    CPUs at the start.
    """
    ours = not ray.is_initialized()
    if not ours and address is not None:
        raise FsckitError(f"`address` {address}: this process has a Ray session; stop it first")
    try:
        if ours:
            _connect(workers, address)
        bound = workers if workers is not None and address is not None else None
        crew = RayCrew(step, bound or 2 * max(1, int(ray.cluster_resources().get("CPU", 1))))
        try:
            yield crew
        finally:
            with suppress(ray.exceptions.RayError):  # the signal that stops us may stop Ray too
                crew.stop()
    finally:
        if ours:
            with suppress(Exception):
                ray.shutdown()


def _connect(workers: int | None, address: str | None) -> None:
    options: dict[str, Any] = {"address": address}
    if address is None:
        # Without an address Ray joins the cluster last started on this machine, or waits for one
        # that is gone.
        options = {"address": "local", "num_cpus": workers, "include_dashboard": False}
    else:
        _refuse_dead(address)
    try:
        with environment(QUIET | ONE_THREAD), signals_deferred():
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # Ray raises many types
        ray.shutdown()
        where = "cannot start Ray" if address is None else f"`address` {address}"
        raise FsckitError(f"{where}: {reason_of(error)}") from None


def _refuse_dead(address: str) -> None:
    """Raise FsckitError if Ray does not answer; `ray.init` would wait forever."""
    refuse_unreachable(address, *_host_and_port(address))
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=3 * CONNECT_TIMEOUT
        )
    except subprocess.SubprocessError as error:
        reason = last_line(getattr(error, "stderr", None) or str(error))
        raise FsckitError(
            f"`address` {address}: no answer from Ray {ray.__version__} ({reason}); use the "
            f"address that 'ray start --head' printed, and set RAY_AUTH_MODE=token if the cluster "
            f"requires a token"
        ) from None


class RayCrew:
    """The running tasks: enough to keep the workers busy, but never all items at once."""

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
        """Interrupt running tasks, so that they clean up; kill those that do not end in time.

        Ray 2.60 aborts the whole driver if a task is cancelled just as it ends, so tasks get
        `SETTLE` seconds to end by themselves.
        """
        running = _wait_for(list(self._running), SETTLE)
        for ref in reversed(running):  # queued tasks first: they would take the freed workers
            ray.cancel(ref)
        for ref in _wait_for(running, GRACE):
            ray.cancel(ref, force=True)


def _wait_for(refs: list[ray.ObjectRef[bytes]], seconds: float) -> list[ray.ObjectRef[bytes]]:
    """The tasks that are still running after `seconds`."""
    return ray.wait(refs, num_returns=len(refs), timeout=seconds)[1] if refs else []


def _reply(ref: ray.ObjectRef[bytes]) -> Reply:
    try:
        reply: bytes = ray.get(ref)
    except ray.exceptions.OutOfMemoryError:
        return "killed by Ray (out of memory)"
    except ray.exceptions.WorkerCrashedError:
        return DIED
    except ray.exceptions.RayTaskError as error:  # outside the step, such as fsckit missing
        return reason_of(error.cause or error)
    except ray.exceptions.RayError as error:
        return reason_of(error)
    return reply
