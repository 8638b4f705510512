"""Shards as img2dataset writes them: whether one is whole, and what it says of its rows."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fscdata.base.errors import FsckitError
from fscdata.base.paths import entries
from fscdata.base.text import printable
from fscdata.contract import IMAGE_EXTENSIONS
from fscdata.download.urls.failures import reason_of
from fscdata.download.urls.table import ROW

# The Parquet tells which rows are done, so it gets its place after the tar with their pictures.
ENDINGS = (".tar", "_stats.json", ".parquet")


def shard_name(number: int, width: int) -> str:
    """img2dataset's name of a shard; `width` is its `oom_shard_count`."""
    return f"{number:0{width}d}"


def shard_names(folder: Path) -> list[str]:
    """The shards of a folder, in the order in which they were made."""
    stems = [path.stem for path in entries(folder, ".parquet") if path.stem.isdecimal()]
    return sorted(stems, key=int)


def is_whole(folder: Path, name: str, rows: int | None = None) -> bool:
    """Whether a shard's tar, Parquet and stats are there, agree, and are of so many rows.

    A row that was lost inside img2dataset is in its count and not in its Parquet.
    """
    tar, stats, parquet = (folder / f"{name}{ending}" for ending in ENDINGS)
    try:
        said = json.loads(stats.read_bytes())
        status = pq.read_table(parquet, columns=["status"])["status"]
        successes = Counter(status.to_pylist())["success"]
        return bool(
            len(status) == said["count"] == (said["count"] if rows is None else rows)
            and successes == said["successes"] == _samples(tar)
            and len(status) - successes == said["failed_to_download"] + said["failed_to_resize"]
        )
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException, tarfile.TarError):
        return False


def _samples(tar: Path) -> int:
    """Pictures in a tar, of which the headers are read."""
    with tarfile.open(tar, "r:") as members:
        return sum(member.name.rpartition(".")[2] in IMAGE_EXTENSIONS for member in members)


def remove(folder: Path, name: str) -> None:
    """Remove what there is of a shard."""
    for ending in ENDINGS:
        (folder / f"{name}{ending}").unlink(missing_ok=True)


def publish(working: Path, shards: Path) -> list[str]:
    """Move the whole shards of a working folder to the others; returns their names.

    Those without a picture are left behind. A run that was killed between two files of a shard is
    gone on with here.
    """
    moved = []
    for name in shard_names(working):
        moving = (shards / f"{name}.tar").exists()
        if moving or (is_whole(working, name) and _samples(working / f"{name}.tar")):
            for ending in ENDINGS:
                file = working / f"{name}{ending}"
                if file.exists():
                    file.replace(shards / file.name)
            moved.append(name)
    return moved


@dataclass
class Outcomes:
    """What became of a table's rows: how many pictures there are, and of the rows without one
    (by `table_row`) the reason of the last try."""

    successes: int = 0
    failures: dict[int, str] = field(default_factory=dict)
    bytes: int = 0
    shards: int = 0


def read_outcomes(folder: Path, names: Iterable[str]) -> Outcomes:
    """The outcomes of shards that are given in the order in which they were made.

    Raises:
        FsckitError: a Parquet cannot be read.
    """
    outcomes = Outcomes()
    for name in names:
        parquet = folder / f"{name}.parquet"
        try:
            rows = pq.read_table(parquet, columns=[ROW, "status", "error_message"])
            outcomes.bytes += (folder / f"{name}.tar").stat().st_size
        except (OSError, pa.ArrowException) as error:
            why = printable(str(error).partition("\n")[0][:200])
            raise FsckitError(
                f"{parquet}: this shard cannot be read ({why}); bring it back, or download again"
            ) from None
        success = pc.equal(rows["status"], "success")
        there, failed = rows.filter(success), rows.filter(pc.invert(success))
        for row in there[ROW].to_pylist():
            outcomes.failures.pop(row, None)
        messages = map(reason_of, failed["error_message"].to_pylist())
        outcomes.failures.update(zip(failed[ROW].to_pylist(), messages, strict=True))
        outcomes.successes += there.num_rows
        outcomes.shards += 1
    return outcomes
