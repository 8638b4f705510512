"""img2dataset's shards: whether each one is complete, and the outcome of each row."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fscdata.base.errors import FsckitError, first_line
from fscdata.base.paths import entries
from fscdata.contract import IMAGE_EXTENSIONS
from fscdata.download.img2dataset.failures import reason_of
from fscdata.download.img2dataset.table import ROW

# In the order of moving: the Parquet says which rows are done, so it follows the tar with their
# images.
ENDINGS = (".tar", "_stats.json", ".parquet")


def shard_name(number: int, width: int) -> str:
    """img2dataset's name of a shard; `width` is the argument `oom_shard_count`."""
    return f"{number:0{width}d}"


def shard_names(folder: Path) -> list[str]:
    """The shards of a folder, in the order in which they were written."""
    stems = [path.stem for path in entries(folder, ".parquet") if path.stem.isdecimal()]
    return sorted(stems, key=int)


def is_complete(folder: Path, name: str, rows: int | None = None) -> bool:
    """Whether a shard's tar, Parquet and stats exist, agree, and cover `rows` rows.

    A row that img2dataset lost is in the stats' count but not in the Parquet.
    """
    tar, stats, parquet = (folder / f"{name}{ending}" for ending in ENDINGS)
    try:
        counts = json.loads(stats.read_bytes())
        status = pq.read_table(parquet, columns=["status"])["status"]
        successes = Counter(status.to_pylist())["success"]
        return bool(
            len(status) == counts["count"] == (counts["count"] if rows is None else rows)
            and successes == counts["successes"] == _samples(tar)
            and len(status) - successes == counts["failed_to_download"] + counts["failed_to_resize"]
        )
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException, tarfile.TarError):
        return False


def _samples(tar: Path) -> int:
    """Images in a tar, counted by its headers."""
    with tarfile.open(tar, "r:") as members:
        return sum(member.name.rpartition(".")[2] in IMAGE_EXTENSIONS for member in members)


def remove(folder: Path, name: str) -> None:
    """Remove the files of a shard."""
    for ending in ENDINGS:
        (folder / f"{name}{ending}").unlink(missing_ok=True)


def publish(working: Path, shards: Path) -> None:
    """Move the complete shards from a working folder to the others.

    Shards without images stay behind. A move that was killed between two files is completed.
    """
    for name in shard_names(working):
        moving = (shards / f"{name}.tar").exists()
        if moving or (is_complete(working, name) and _samples(working / f"{name}.tar")):
            for ending in ENDINGS:
                file = working / f"{name}{ending}"
                if file.exists():
                    file.replace(shards / file.name)


@dataclass
class Outcomes:
    """The outcomes of a table's rows.

    Attributes:
        successes: rows with an image.
        failures: `table_row` → the reason of the last attempt, for rows without one.
        bytes: size of all tars.
    """

    successes: int = 0
    failures: dict[int, str] = field(default_factory=dict)
    bytes: int = 0

    @property
    def reasons(self) -> Counter[str]:
        """Failed rows by reason."""
        return Counter(self.failures.values())


def read_outcomes(folder: Path) -> Outcomes:
    """The outcomes in a folder's shards; a later shard overrides an earlier one's failures.

    Raises:
        FsckitError: a Parquet cannot be read.
    """
    outcomes = Outcomes()
    for name in shard_names(folder):
        parquet = folder / f"{name}.parquet"
        try:
            rows = pq.read_table(parquet, columns=[ROW, "status", "error_message"])
            outcomes.bytes += (folder / f"{name}.tar").stat().st_size
        except (OSError, pa.ArrowException) as error:
            raise FsckitError(
                f"{parquet}: this shard cannot be read ({first_line(error)}); restore it, or "
                f"download into another folder"
            ) from None
        success = pc.equal(rows["status"], "success")
        succeeded, failed = rows.filter(success), rows.filter(pc.invert(success))
        for row in succeeded[ROW].to_pylist():
            outcomes.failures.pop(row, None)
        messages = map(reason_of, failed["error_message"].to_pylist())
        outcomes.failures.update(zip(failed[ROW].to_pylist(), messages, strict=True))
        outcomes.successes += succeeded.num_rows
    return outcomes
