"""Tables of URLs → shards of pictures and captions, through img2dataset.

    DATA/urls/table.parquet     the table's usable rows, as img2dataset is given them
    DATA/urls/plan.json         what was asked for: the table, its columns, img2dataset's arguments
    DATA/urls/working/          what img2dataset writes; removed when all of it is moved
    DATA/urls/img2dataset.log   what it printed last
    DATA/shards/                per shard a tar, a Parquet with a row a URL, and _stats.json

img2dataset writes in place and takes a shard for done that has a stats file, whatever is in it. So
it works in a folder of its own, every shard is checked there, and none is moved before it is whole.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from fscdata.contract import FsckitError, access
from fscdata.download.img2dataset_process import find_img2dataset
from fscdata.download.url_run import Progress, Run
from fscdata.download.url_shards import Outcomes, read_outcomes, shard_names
from fscdata.download.url_table import ROW, Columns, read_batches, table_files_size, write_table
from fscdata.executors import usable_cpus
from fscdata.storage import atomic_file, locked

# What fscdata itself tells img2dataset.
_OWN = frozenset(
    {"url_list", "output_folder", "output_format", "input_format", "url_col", "caption_col"}
    | {"incremental_mode"}
)
# What may differ between a run and the one that goes on with it: the pictures stay the same.
_FREE = frozenset(
    {"processes_count", "thread_count", "timeout", "retries", "distributor", "subjob_size"}
    | {"max_shard_retry", "enable_wandb", "wandb_project", "user_agent_token"}
)
# Of the options' fields those that are img2dataset's own by the same name.
_NAMED = (
    *("image_size", "resize_mode", "resize_only_if_bigger", "encode_quality"),
    *("number_sample_per_shard", "thread_count", "timeout", "retries", "distributor"),
)


@dataclass(frozen=True)
class UrlOptions:
    """How a URL table is read and its pictures are kept.

    `columns` names the columns of a table that has no header. The shorter side of a picture is
    brought down to `image_size` pixels (`keep_ratio`), with no padding. `processes_count` None is
    one a core. `extra` takes every other option of img2dataset's by its name and goes before the
    fields here; its opt-out headers (noai, noimageai, noindex, noimageindex) are honoured unless
    `disallowed_header_directives` says otherwise. img2dataset's `retries` tries again whatever the
    error is, so it is 0; `retry` takes those alone that can pass.
    """

    url_col: str = "url"
    caption_col: str | None = "caption"
    columns: tuple[str, ...] | None = None
    image_size: int = 256
    resize_mode: Literal["no", "border", "keep_ratio", "keep_ratio_largest", "center_crop"] = (
        "keep_ratio"
    )
    resize_only_if_bigger: bool = True
    encode_quality: int = 95
    number_sample_per_shard: int = 10_000
    processes_count: int | None = None
    thread_count: int = 64
    timeout: int = 10
    retries: int = 0
    distributor: Literal["multiprocessing", "ray", "pyspark"] = "multiprocessing"
    extra: Mapping[str, Any] = field(default_factory=dict)

    def arguments(self) -> dict[str, Any]:
        """img2dataset's arguments, but for its files.

        Raises:
            FsckitError: `extra` has one that fscdata sets itself, or a value of another type than
                fscdata reads.
        """
        for name, value in self.extra.items():
            if name in _OWN:
                raise FsckitError(f"'{name}': fscdata gives this to img2dataset itself; leave it")
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError):  # YAML reads dates, sets and .nan
                raise FsckitError(
                    f"{name}: '{value}' is no text, number or list; put text in quotes"
                ) from None
        arguments = {
            "input_format": "parquet",
            "output_format": "webdataset",
            "url_col": "url",
            "caption_col": "caption" if self.caption_col else None,
            "oom_shard_count": 5,
            **{name: getattr(self, name) for name in _NAMED},
            "processes_count": self.processes_count or usable_cpus(),
            **self.extra,
            "save_additional_columns": [ROW, *self._list("save_additional_columns")],
        }
        for name in ("number_sample_per_shard", "oom_shard_count", "processes_count"):
            if type(arguments[name]) is not int or arguments[name] < 1:
                raise FsckitError(f"{name}: {arguments[name]!r} is not a positive number")
        return arguments

    def table_columns(self) -> Columns:
        """The table's columns that img2dataset has to be given."""
        kept = [*self._list("save_additional_columns"), *self._list("verify_hash")[:1]]
        if box := self.extra.get("bbox_col"):
            kept.append(str(box))
        for name in kept:
            if name in ("url", "caption", self.url_col, self.caption_col):
                raise FsckitError(f"'{name}': goes into every sample anyhow; keep other columns")
        return Columns(self.url_col, self.caption_col, self.columns, tuple(dict.fromkeys(kept)))

    def _list(self, name: str) -> list[str]:
        value = self.extra.get(name) or []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise FsckitError(f"{name}: {value!r} is not a list of names")
        return value


@dataclass(frozen=True)
class UrlReport:
    """What became of a table's rows: `successes` are samples in shards, `failures` counts by
    reason the rows whose picture did not come, `skipped` those that were not asked for."""

    successes: int
    failures: dict[str, int]
    skipped: dict[str, int]
    shards: int
    bytes: int
    seconds: float

    @classmethod
    def of(cls, outcomes: Outcomes, skipped: dict[str, int], seconds: float) -> UrlReport:
        reasons = dict(Counter(outcomes.failures.values()).most_common())
        return cls(outcomes.successes, reasons, skipped, outcomes.shards, outcomes.bytes, seconds)


def download_table(
    table: Path, folder: Path, options: UrlOptions, progress: Progress = lambda done, rows: None
) -> UrlReport:
    """Fetch a table's pictures into `folder/shards`; what a killed run left is gone on with.

    Done already, it only reports.

    Raises:
        FsckitError: img2dataset is missing or fails, or leaves a shard out; the table cannot be
            read; the folder was begun with another table or other options.
    """
    start = time.monotonic()
    urls, shards = folder / "urls", folder / "shards"
    with access(folder, "written"):
        urls.mkdir(parents=True, exist_ok=True)
    with locked(urls):
        plan = _plan(table, folder, options)
        if not shards.exists():
            free = {name: v for name, v in options.arguments().items() if name in _FREE}
            run = Run(urls / "table.parquet", plan.rows, urls / "working", plan.arguments | free)
            run.fetch(progress)
            with access(shards, "written"):
                run.working.rename(shards)
    outcomes = read_outcomes(shards, shard_names(shards))
    return UrlReport.of(outcomes, plan.skipped, time.monotonic() - start)


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
        fixed = [{k: v for k, v in a.items() if k not in _FREE} for a in (self.arguments, asked)]
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


def _plan(table: Path, folder: Path, options: UrlOptions) -> Plan:
    """The plan in the folder, made with its table if there is none yet."""
    path = folder / "urls" / "plan.json"
    columns, arguments = options.table_columns(), options.arguments()
    record = {
        "name": table.name,
        "size": table_files_size(table),
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
        raise FsckitError(f"{table}: there is no row to download ({reasons})")
    plan = Plan(record, arguments, rows, dict(+skipped))
    with atomic_file(path) as file:
        file.write(json.dumps(asdict(plan), indent=1).encode())
    return plan
