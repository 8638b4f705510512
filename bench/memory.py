"""Peak memory of make-negatives over 100,000 and over 1,000,000 captions.

    python bench/memory.py

Each caption joins the first half of one caption and the second half of another, plus a number, so
that new words keep coming. The source is Flickr8k if shared/data exists beside the checkout, else
the tests' captions. Two workers run the fsc-clip recipe with K = 5; each process's peak is the
kernel's VmHWM. The last line is the ratio of the largest process's peaks.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common  # noqa: F401  (finds tests/support)
from support.captions import FLICKR_CAPTIONS, ODD, TEMPLATES
from support.tars import write_shards

SHARD = 2_000  # samples, of five captions


def captions(count: int) -> list[str]:
    """`count` captions, all different."""
    lines = [*TEMPLATES, *ODD]
    if FLICKR_CAPTIONS.is_file():
        lines = FLICKR_CAPTIONS.read_text().splitlines()
    words = [line.split() for line in lines]
    made = []
    for i in range(count):
        first, second = words[i % len(words)], words[i * 7919 % len(words)]
        made.append(" ".join([*first[: len(first) // 2], *second[len(second) // 2 :], str(i)]))
    return made


def peaks(pid: int, found: dict[int, int]) -> None:
    """Record the peak memory in kB of a process and of those it started."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has ended
        return
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            found[pid] = max(found.get(pid, 0), int(line.split()[1]))
    for child in children:
        peaks(int(child), found)


def run(count: int) -> tuple[float, float]:
    """The peaks in MB of the largest worker and of the driver, over `count` captions."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        texts = captions(count)
        samples = [(f"{i:08d}", texts[i : i + 5]) for i in range(0, count, 5)]
        write_shards(data, [samples[i : i + SHARD] for i in range(0, len(samples), SHARD)])
        del texts, samples
        command = [sys.executable, "-m", "fscdata", "make-negatives", folder]
        command += ["--recipe", "fsc-clip", "--variants", "5", "--workers", "2", "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        found: dict[int, int] = {}
        while process.poll() is None:
            peaks(process.pid, found)
            time.sleep(0.2)
        assert process.stdout is not None
        report = json.loads(process.stdout.read())
    driver = found.pop(process.pid) / 1024
    worker = max(found.values()) / 1024
    print(
        f"{report['captions']:>9,} captions: worker {worker:.0f} MB, driver {driver:.0f} MB, "
        f"{report['captions_per_second']:.0f} captions/s",
        flush=True,
    )
    return worker, driver


def main() -> None:
    """Run the benchmark."""
    small, _ = run(100_000)
    large, _ = run(1_000_000)
    print(f"memory-million-vs-100k {large / small:.3f}")


if __name__ == "__main__":
    main()
