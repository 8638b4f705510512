"""A try of a few rows of a URL table, before a large download."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from fscdata.base.errors import FsckitError
from fscdata.download.urls import UrlOptions
from fscdata.download.urls.run import Run
from fscdata.download.urls.shards import read_outcomes, shard_names
from fscdata.download.urls.table import read_batches, write_table


@dataclass(frozen=True)
class Probe:
    """What `rows` rows, drawn from the `table_rows` that can be asked for, came to."""

    table_rows: int
    rows: int
    successes: int
    failures: dict[str, int]
    skipped: dict[str, int]
    bytes: int

    @property
    def success_rate(self) -> float:
        return self.successes / self.rows

    @property
    def histogram(self) -> dict[str, int]:
        """Rows by what they came to, the most frequent first."""
        return dict(Counter({"success": self.successes} | self.failures).most_common())

    @property
    def expected_samples(self) -> int:
        return round(self.table_rows * self.success_rate)

    @property
    def expected_bytes(self) -> int:
        return round(self.table_rows / self.rows * self.bytes)


def probe(
    table: Sequence[Path], folder: Path, options: UrlOptions, rows: int = 200, seed: int = 0
) -> Probe:
    """Download a random sample of a table's rows, which `seed` draws, and keep none of it.

    The work is done below `folder`, which img2dataset's workers must see from other machines too;
    what it printed stays there in `probe.log`.

    Raises:
        FsckitError: as `urls.download_table`; the table has no row to ask for.
    """
    skipped: Counter[str] = Counter()
    drawn, table_rows = _draw(read_batches(table, options.table_columns(), skipped), rows, seed)
    if not table_rows:
        raise FsckitError(f"{table[0]}: there is no row to download")
    with tempfile.TemporaryDirectory(prefix="probe-", dir=folder) as name:
        place = Path(name)
        write_table(place / "table.parquet", iter(drawn.to_batches()))
        one_shard = {"number_sample_per_shard": rows}
        run = Run(
            place / "table.parquet",
            drawn.num_rows,
            place / "working",
            folder / "probe.log",
            options.arguments() | one_shard,
        )
        run.fetch(lambda done, total: None)
        outcomes = read_outcomes(run.working, shard_names(run.working))
    return Probe(
        table_rows,
        drawn.num_rows,
        outcomes.successes,
        dict(Counter(outcomes.failures.values()).most_common()),
        dict(+skipped),
        outcomes.bytes,
    )


def _draw(batches: Iterator[pa.RecordBatch], rows: int, seed: int) -> tuple[pa.Table, int]:
    """Rows drawn uniformly without replacement, in the table's order, and how many there were.

    Each row gets a random number, and those with the smallest are kept, so that one pass will do.
    """
    generator = np.random.default_rng(seed)
    kept: pa.Table | None = None
    numbers = np.empty(0)
    seen = 0
    for batch in batches:
        part = pa.Table.from_batches([batch])
        kept = part if kept is None else pa.concat_tables([kept, part])
        numbers = np.concatenate([numbers, generator.random(batch.num_rows)])
        chosen = np.sort(np.argsort(numbers, kind="stable")[:rows])
        kept, numbers = kept.take(chosen), numbers[chosen]
        seen += batch.num_rows
    return (pa.table({}) if kept is None else kept), seen
