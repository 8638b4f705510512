"""How a URL table is downloaded, and the record of it in `urls/plan.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fscdata.base.errors import FsckitError, first_line
from fscdata.base.files import atomic_file
from fscdata.base.paths import size_of
from fscdata.base.text import join_counts
from fscdata.download.img2dataset.process import find_img2dataset
from fscdata.download.img2dataset.table import ROW, Columns, TableReader, write_table
from fscdata.executors import usable_cpus

# Arguments that fscdata sets itself.
_RESERVED = frozenset(
    {"url_list", "output_folder", "output_format", "input_format", "url_col", "caption_col"}
    | {"incremental_mode"}
)
# Arguments without effect on the images, which may differ when a download resumes.
_FREE = frozenset(
    {"processes_count", "thread_count", "timeout", "retries", "distributor", "subjob_size"}
    | {"max_shard_retry", "enable_wandb", "wandb_project", "user_agent_token"}
)
_DEFAULTS: dict[str, Any] = {
    "input_format": "parquet",
    "output_format": "webdataset",
    "url_col": "url",
    "caption_col": "caption",
    "oom_shard_count": 5,
    # The shorter side shrinks to 256 pixels, without padding.
    "image_size": 256,
    "resize_mode": "keep_ratio",
    "resize_only_if_bigger": True,
    "encode_quality": 95,
    "number_sample_per_shard": 10_000,
    "thread_count": 64,
    "timeout": 10,
    # img2dataset would retry missing pages too; `retry_rows` only retries temporary failures.
    "retries": 0,
    "distributor": "multiprocessing",
}


@dataclass(frozen=True)
class TableOptions:
    """How a URL table is read and its images are stored.

    Attributes:
        url_column: the table's column of URLs.
        caption_column: its column of captions.
        columns: names of all columns of a table without a header.
        img2dataset: its arguments, which override this module's defaults. It respects opt-out
            headers (noai, noimageai, noindex, noimageindex) unless `disallowed_header_directives`
            says otherwise.
    """

    url_column: str
    caption_column: str
    columns: tuple[str, ...] | None = None
    img2dataset: Mapping[str, Any] = field(default_factory=dict)

    def arguments(self) -> dict[str, Any]:
        """img2dataset's arguments, without those that name files.

        Raises:
            FsckitError: fscdata sets an argument itself, or a value has the wrong type.
        """
        for name, value in self.img2dataset.items():
            if name in _RESERVED:
                raise FsckitError(f"'{name}': fscdata sets this option of img2dataset; remove it")
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError):  # YAML reads dates, sets and .nan
                raise FsckitError(
                    f"{name}: '{value}' is not text, a number or a list; put text in quotes"
                ) from None
        arguments = {
            **_DEFAULTS,
            "processes_count": usable_cpus(),
            **self.img2dataset,
            "save_additional_columns": [ROW, *self._names("save_additional_columns")],
        }
        for name in ("number_sample_per_shard", "oom_shard_count", "processes_count"):
            if type(arguments[name]) is not int or arguments[name] < 1:
                raise FsckitError(f"{name}: {arguments[name]!r} is not a positive number")
        return arguments

    def table_columns(self) -> Columns:
        """The table's columns that img2dataset reads."""
        kept = [*self._names("save_additional_columns"), *self._names("verify_hash")[:1]]
        if box := self.img2dataset.get("bbox_col"):
            kept.append(str(box))
        for name in kept:
            if name in ("url", "caption", self.url_column, self.caption_column):
                raise FsckitError(f"'{name}': every sample has this column already; remove it")
        return Columns(
            self.url_column, self.caption_column, self.columns, tuple(dict.fromkeys(kept))
        )

    def _names(self, argument: str) -> list[str]:
        value = self.img2dataset.get(argument) or []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise FsckitError(f"{argument}: {value!r} is not a list of names")
        return value


@dataclass(frozen=True)
class Job:
    """The table and arguments of a download, recorded so that it can resume.

    `rows` counts the table's usable rows, `skipped` the others by reason.
    """

    table: dict[str, Any]
    arguments: dict[str, Any]
    rows: int
    skipped: dict[str, int]

    def allows(self, arguments: dict[str, Any]) -> bool:
        """Whether these arguments give the same images."""
        # Through JSON, like the recorded ones: tuples become lists.
        given: dict[str, Any] = json.loads(json.dumps(arguments))
        fixed = [{k: v for k, v in a.items() if k not in _FREE} for a in (self.arguments, given)]
        return fixed[0] == fixed[1]


def read_job(folder: Path) -> Job:
    """The job of a data set that was made from a URL table.

    Raises:
        FsckitError: it was not, or the record is damaged.
    """
    path = folder / "urls" / "plan.json"
    try:
        return Job(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise FsckitError(f"{folder}: not made from a URL table ({path} is missing)") from None
    except (OSError, ValueError, TypeError) as error:
        raise FsckitError(
            f"{path}: cannot be read ({first_line(error)}); choose another folder"
        ) from None


def open_job(table: Sequence[Path], folder: Path, options: TableOptions) -> Job:
    """The job in the folder; a new one first writes the table for img2dataset.

    Raises:
        FsckitError: the folder has a job with another table or other options, or foreign shards;
            the table cannot be read; img2dataset is missing or rejects the options.
    """
    path = folder / "urls" / "plan.json"
    columns, arguments = options.table_columns(), options.arguments()
    source = {
        "files": [[file.name, size_of(file)] for file in table],
        "columns": json.loads(json.dumps([columns.wanted, columns.names])),
    }
    if path.exists():
        job = read_job(folder)
        if not (job.table == source and job.allows(arguments)):
            raise FsckitError(
                f"{folder}: started with another table or other options (see {path}); use the same "
                f"ones, or choose another folder"
            )
        return job
    if (folder / "shards").exists():
        raise FsckitError(f"{folder}: already contains shards; choose another folder")
    find_img2dataset().check(arguments)  # before a long table is read
    reader = TableReader(table, columns)
    rows = write_table(path.with_name("table.parquet"), reader.batches())
    skipped = dict(+reader.skipped)
    if not rows:
        reasons = join_counts(skipped) or "it is empty"
        raise FsckitError(f"{table[0]}: no row can be downloaded ({reasons})")
    job = Job(source, arguments, rows, skipped)
    with atomic_file(path) as file:
        file.write(json.dumps(asdict(job), indent=1).encode())
    return job


def free_arguments(options: TableOptions) -> dict[str, Any]:
    """The arguments that may differ from a recorded job's."""
    return {name: value for name, value in options.arguments().items() if name in _FREE}
