"""How a URL table is read and its pictures are kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fscdata.base.errors import FsckitError
from fscdata.download.urls.table import ROW, Columns
from fscdata.executors import usable_cpus

# What fscdata itself tells img2dataset.
_OWN = frozenset(
    {"url_list", "output_folder", "output_format", "input_format", "url_col", "caption_col"}
    | {"incremental_mode"}
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
