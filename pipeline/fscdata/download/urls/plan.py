"""`urls/plan.json`: what was asked for, so that a run can be gone on with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fscdata.base.errors import FsckitError
from fscdata.base.files import atomic_file
from fscdata.base.paths import size_of
from fscdata.download.urls.img2dataset_process import find_img2dataset
from fscdata.download.urls.options import UrlOptions
from fscdata.download.urls.table import read_batches, write_table

# What may differ between a run and the one that goes on with it: the pictures stay the same.
FREE = frozenset(
    {"processes_count", "thread_count", "timeout", "retries", "distributor", "subjob_size"}
    | {"max_shard_retry", "enable_wandb", "wandb_project", "user_agent_token"}
)


@dataclass(frozen=True)
class Plan:
    """What was asked for, and how many rows of the table could be asked for."""

    table: dict[str, Any]
    arguments: dict[str, Any]
    rows: int
    skipped: dict[str, int]

    def is_of(self, table: dict[str, Any], arguments: dict[str, Any]) -> bool:
        """Whether a download of this table with these arguments gives the same."""
        return self.table == table and self.allows(arguments)

    def allows(self, arguments: dict[str, Any]) -> bool:
        """Whether these arguments give the same pictures of the table."""
        # Through JSON, as the plan was: tuples are lists there.
        asked: dict[str, Any] = json.loads(json.dumps(arguments))
        fixed = [{k: v for k, v in a.items() if k not in FREE} for a in (self.arguments, asked)]
        return fixed[0] == fixed[1]


def read_plan(folder: Path) -> Plan:
    """The plan of a data set that was made from a URL table.

    Raises:
        FsckitError: it was not, or its plan is damaged.
    """
    path = folder / "urls" / "plan.json"
    try:
        return Plan(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise FsckitError(f"{folder}: no data set of a URL table ({path} is missing)") from None
    except (OSError, ValueError, TypeError) as error:
        raise FsckitError(
            f"{path}: cannot be read ({error}); download into another folder"
        ) from None


def make_plan(table: Sequence[Path], folder: Path, options: UrlOptions) -> Plan:
    """The plan in the folder, made with its table if there is none yet."""
    path = folder / "urls" / "plan.json"
    columns, arguments = options.table_columns(), options.arguments()
    record = {
        "files": [[file.name, size_of(file)] for file in table],
        "columns": json.loads(json.dumps([columns.wanted, columns.names])),
    }
    if path.exists():
        plan = read_plan(folder)
        if not plan.is_of(record, arguments):
            raise FsckitError(
                f"{folder}: begun with another table or other options (see {path}); give the same, "
                f"or take another folder"
            )
        return plan
    if (folder / "shards").exists():
        raise FsckitError(f"{folder}: there are shards in it; download into another folder")
    find_img2dataset().check(arguments)  # before a long table is read
    skipped: Counter[str] = Counter()
    rows = write_table(path.with_name("table.parquet"), read_batches(table, columns, skipped))
    if not rows:
        reasons = ", ".join(f"{reason}: {n:,}" for reason, n in (+skipped).items()) or "it is empty"
        raise FsckitError(f"{table[0]}: there is no row to download ({reasons})")
    plan = Plan(record, arguments, rows, dict(+skipped))
    with atomic_file(path) as file:
        file.write(json.dumps(asdict(plan), indent=1).encode())
    return plan
