"""Spark: a local context that ends with the run, or a standalone cluster.

Each job is one attempt at one item, so a failure does not affect other items. Spark's own
retries are off: `base` counts the attempts.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark import InheritableThread, SparkConf, SparkContext
from pyspark.errors import PySparkException

from fscdata.base.errors import FsckitError, last_line
from fscdata.executors.base import (
    DIED,
    GRACE,
    ONE_THREAD,
    ItemTick,
    Reply,
    attempt,
    environment,
    exit_on_signal,
    reason_of,
    refuse_unreachable,
    signals_deferred,
)

JOB_GROUP = "fscdata"
LOGGING = Path(__file__).with_name("log4j2.properties").as_uri()
ADDRESS = re.compile(r"spark://(?P<host>[^:/,]+):(?P<port>\d+)")


def check(address: str | None) -> None:
    """Raise FsckitError if Java is missing or the address is not spark://HOST:PORT."""
    home = os.environ.get("JAVA_HOME")
    if shutil.which("java", path=f"{home}/bin" if home else None) is None:
        raise FsckitError(
            "executor 'spark' needs Java 17 or later, which is not installed; run: "
            "apt-get install default-jre-headless"
        )
    if address is not None:
        _host_and_port(address)


def _host_and_port(address: str) -> tuple[str, int]:
    match = ADDRESS.fullmatch(address)
    if match is None:
        raise FsckitError(
            f"`address` {address}: expected a Spark URL, such as spark://10.0.0.1:7077"
        )
    return match["host"], int(match["port"])


@contextmanager
def open_crew(
    step: bytes, tick: ItemTick, workers: int | None, address: str | None
) -> Iterator[SparkCrew]:
    """Jobs of one task each; if this process has a Spark context, it is used and left running."""
    theirs = SparkContext._active_spark_context
    if theirs is not None and address is not None:
        raise FsckitError(f"`address` {address}: this process has a Spark context; stop it first")
    crew = None
    try:
        crew = SparkCrew(step, theirs or _connect(workers, address))
        yield crew
    finally:
        if theirs is None:
            _stop(SparkContext._active_spark_context)
        elif crew is not None:
            crew.cancel()
        if crew is not None:
            crew.join()


def _connect(workers: int | None, address: str | None) -> SparkContext:
    conf = SparkConf().setAppName("fscdata").set("spark.task.maxFailures", "1")
    conf.set("spark.ui.enabled", "false").set("spark.ui.showConsoleProgress", "false")
    # How long a stopped worker may clean up before it is killed; Spark's default is 2 s.
    conf.set("spark.python.task.killTimeout", f"{GRACE:.0f}s")
    conf.set("spark.driver.extraJavaOptions", f"-Dlog4j2.configurationFile={LOGGING}")
    for name, value in ONE_THREAD.items():
        conf.setExecutorEnv(name, value)
    if address is None:
        conf.setMaster(f"local[{workers}]")
        conf.set("spark.driver.host", "127.0.0.1").set("spark.driver.bindAddress", "127.0.0.1")
    else:
        refuse_unreachable(address, *_host_and_port(address))
        conf.setMaster(address)
        if workers is not None:
            conf.set("spark.cores.max", str(workers))
    python = {"PYSPARK_PYTHON": os.environ.get("PYSPARK_PYTHON", sys.executable)}
    try:
        with environment(python), signals_deferred():
            return SparkContext(conf=conf)
    except (PySparkException, Py4JError) as error:
        where = "cannot start Spark" if address is None else f"`address` {address}"
        raise FsckitError(f"{where}: {_reason(error)}") from None


def _stop(context: SparkContext | None) -> None:
    """Stop our context, if it started; a signal to the process group may have killed Java."""
    if context is None:
        return
    if context._accumulatorServer is not None:
        context._accumulatorServer.handle_error = lambda *_: None  # it prints tracebacks
    with suppress(Py4JError, OSError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context.stop()


class SparkCrew:
    """One thread per job, since submitting a job blocks until it ends."""

    def __init__(self, step: bytes, context: SparkContext) -> None:
        self._context = context
        self._work = partial(_work, step)
        self._running: dict[int, InheritableThread] = {}
        self._ended: SimpleQueue[tuple[int, Reply]] = SimpleQueue()

    @property
    def window(self) -> int:
        cores: int = self._context.defaultParallelism  # grows as executors register
        return cores

    def submit(self, index: int, item: bytes) -> None:
        thread = InheritableThread(target=self._run_job, args=(index, item), daemon=True)
        self._running[index] = thread
        thread.start()

    def replies(self) -> list[tuple[int, Reply]]:
        index, reply = self._ended.get()
        del self._running[index]
        return [(index, reply)]

    def cancel(self) -> None:
        """Cancel the running jobs; Spark kills their workers."""
        if self._running:
            self._context.cancelJobGroup(JOB_GROUP)

    def join(self) -> None:
        """Wait for the jobs, which end when cancelled or when their context stops."""
        for thread in self._running.values():
            thread.join(GRACE)

    def _run_job(self, index: int, item: bytes) -> None:
        try:
            self._context.setJobGroup(JOB_GROUP, f"item {index}")
            reply: Reply = self._context.parallelize([item], 1).map(self._work).collect()[0]
        except Exception as error:  # of any type; it would be lost in the thread
            reply = _reason(error)
        self._ended.put((index, reply))


def _work(step: bytes, item: bytes) -> bytes:
    """Runs in a Spark worker, which gets SIGHUP when its context ends."""
    signal.signal(signal.SIGHUP, exit_on_signal)
    try:
        return attempt(step, item)
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # an idle worker has nothing to clean up


def _reason(error: Exception) -> str:
    """The line of a Java exception that says what happened."""
    if not isinstance(error, Py4JJavaError):
        return reason_of(error)
    try:
        text = str(error.java_exception.toString())
    except (Py4JError, OSError):
        return "Spark stopped"
    if "Python worker exited unexpectedly" in text or "ExecutorLostFailure" in text:
        return DIED
    # A Python traceback ends with the error; a Java stack trace may follow. A Java exception
    # starts with the error.
    text = text.partition("\n\tat ")[0].partition("\n SQLSTATE")[0]
    return reason_of(FsckitError(last_line(text)))
