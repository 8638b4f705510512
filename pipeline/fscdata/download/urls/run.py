"""One run of img2dataset over a table of `url_table`'s, with its work checked."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fscdata.base.errors import FsckitError
from fscdata.base.paths import access
from fscdata.download.urls.img2dataset_process import find_img2dataset, last_line, run
from fscdata.download.urls.shards import ENDINGS, is_whole, remove, shard_name

Progress = Callable[[int, int], None]  # rows done, rows in all; it hears of whole shards


@dataclass(frozen=True)
class Run:
    """img2dataset writes the shards of a table's `rows` into `working`, numbered from `first`, and
    what it prints into `log`."""

    table: Path
    rows: int
    working: Path
    log: Path
    arguments: dict[str, Any]
    first: int = 0

    @property
    def expected(self) -> dict[str, int]:
        """The shards to come, and the rows of each."""
        per_shard, width = (
            int(self.arguments[name]) for name in ("number_sample_per_shard", "oom_shard_count")
        )
        return {
            shard_name(self.first + i, width): min(per_shard, self.rows - i * per_shard)
            for i in range(math.ceil(self.rows / per_shard))
        }

    def fetch(self, progress: Progress) -> None:
        """Run img2dataset for the shards that are not whole yet.

        It reports success when a worker failed, when Ray is not installed, and when it was told to
        stop; so the shards are looked at, not what it says.

        Raises:
            FsckitError: it is missing, fails or leaves a shard out.
        """
        if set("*?[") & set(str(self.working.absolute())):
            raise FsckitError(
                f"{self.working}: img2dataset cannot work in a folder with *, ? or [ in its path; "
                f"take another one"
            )
        tool = find_img2dataset()
        tool.check(self.arguments)
        with access(self.working, "written"):
            self.working.mkdir(parents=True, exist_ok=True)
        missing = self._unfinished()
        if missing:
            for name in missing:
                remove(self.working, name)
            run(tool, self._call(len(missing)), self.log, lambda: self._show(progress))
            missing = self._unfinished()
        if missing:
            raise FsckitError(
                f"{self.working}: img2dataset left {len(missing):,} of {len(self.expected):,} "
                f"shards unfinished, {missing[0]} the first ({last_line(self.log)}); {self.log} "
                f"tells more, and the same command goes on from there"
            )
        shutil.rmtree(self.working / "_tmp", ignore_errors=True)
        progress(self.rows, self.rows)

    def _unfinished(self) -> list[str]:
        return [name for name, n in self.expected.items() if not is_whole(self.working, name, n)]

    def _call(self, shards: int) -> dict[str, Any]:
        """The arguments of `img2dataset.download`."""
        arguments = self.arguments | {
            "url_list": str(self.table.absolute()),
            "output_folder": str(self.working.absolute()),
            "processes_count": min(self.arguments["processes_count"], shards),
            "incremental_mode": "incremental",
        }
        if self.first:
            # It numbers on from the last stats file that it finds.
            name = shard_name(self.first - 1, int(self.arguments["oom_shard_count"]))
            (self.working / f"{name}_stats.json").touch()
            arguments["incremental_mode"] = "extend"
        return arguments

    def _show(self, progress: Progress) -> None:
        ending = ENDINGS[1]
        done = sum(
            n for name, n in self.expected.items() if (self.working / f"{name}{ending}").exists()
        )
        progress(done, self.rows)
