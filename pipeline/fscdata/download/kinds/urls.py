"""A table of image URLs and captions, downloaded by img2dataset."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from fscdata.base.errors import FsckitError
from fscdata.base.paths import access
from fscdata.base.progress import Progress, Reporter
from fscdata.base.text import join_counts, plural
from fscdata.download.fields import SHARDS, SOURCES, Files, RemoteFile, Text, UserPath
from fscdata.download.img2dataset.failures import is_temporary
from fscdata.download.img2dataset.options import TableOptions, read_job
from fscdata.download.img2dataset.process import find_img2dataset
from fscdata.download.img2dataset.rows import download_rows, probe_rows, retry_rows
from fscdata.download.img2dataset.shards import read_outcomes
from fscdata.download.img2dataset.table import SUFFIXES, find_table_files
from fscdata.download.kind import Manifest, Options, PlannedFile
from fscdata.download.packs import require_sources
from fscdata.download.session import STAGING, Session

MIN_SUCCESS = 0.5  # of the probed rows
Scalar = str | int | float | bool


class Kind(Manifest):
    """A table of image URLs and captions.

    `table_files` are its files (TSV, CSV or Parquet), which are fetched. Alternatively `table` is a
    file, or a folder of files, that the user puts into the data set's folder. `url_column` and
    `caption_column` name its columns; `columns` names all columns, in order, of a TSV or CSV
    without a header. `options` are passed to img2dataset.
    """

    uses: ClassVar = frozenset({"min_success", "retries", "engine", "workers", "img2dataset"})

    kind: Literal["urls"]
    table_files: Files = []
    table: Annotated[UserPath | None, Field(validate_default=True)] = None
    url_column: Text
    caption_column: Text
    columns: list[Text] | None = None
    options: dict[str, Scalar | list[Scalar]] = {}

    @field_validator("table_files")
    @classmethod
    def _are_tables(cls, files: list[RemoteFile]) -> list[RemoteFile]:
        for file in files:
            if not file.name.lower().endswith(SUFFIXES):
                raise ValueError(
                    f"'{file.name}' is not a table of URLs; expected {', '.join(SUFFIXES)}"
                )
        return files

    @field_validator("table")
    @classmethod
    def _either_or(cls, table: str | None, info: ValidationInfo) -> str | None:
        if (table is None) == (not info.data.get("table_files", [])):
            raise ValueError(
                "set either table_files (to fetch) or table (a path in the data set's folder)"
            )
        return table

    def remote_files(self) -> list[RemoteFile]:
        return self.table_files

    def planned_files(self, options: Options, reporter: Reporter) -> list[PlannedFile]:
        self._checked_options(options)
        return super().planned_files(options, reporter)

    def fetch(self, session: Session) -> None:
        options = self._checked_options(session.options)  # before a long table is fetched
        table = self._fetch_table(session)
        if not (session.folder / "urls").exists():  # a resumed download has been probed
            _probe(session, table, options)
        counter = session.reporter.counter("downloading", "rows")
        download_rows(table, session.folder, options, counter)
        if session.options.retries:
            counter = session.reporter.counter("retrying", "rows")
            retry_rows(session.folder, session.options.retries, counter)
        _count_rows(session)
        require_sources(session, self.table_files)

    def check_missing(self, folder: Path, missing: Sequence[str]) -> None:
        _check_shards(folder, missing)

    def check_finished(self, folder: Path, options: Options) -> None:
        if options.img2dataset and not read_job(folder).allows(self._options(options).arguments()):
            raise FsckitError(
                f"{folder}: was made with other img2dataset options (see its urls/plan.json); "
                f"omit `img2dataset`, or choose another folder"
            )

    def planning_notes(self, folder: Path) -> list[str]:
        if not self.table:
            return []
        missing = "" if (folder / self.table).exists() else ", which does not exist yet"
        return [f"the table is {folder / self.table}{missing}"]

    def closing_notes(self, folder: Path, left_out: Mapping[str, int]) -> list[str]:
        rows = sum(count for reason, count in left_out.items() if is_temporary(reason))
        if not rows:
            return []
        retry = f"fscdata retry {shlex.quote(str(folder))}"
        return [f"{plural(rows, 'row')} failed temporarily; to retry: {retry}"]

    @classmethod
    def retry_rows(cls, session: Session, times: int) -> None:
        _check_shards(session.folder, session.missing)
        try:
            retry_rows(session.folder, times, session.reporter.counter("retrying", "rows"))
        finally:  # earlier rounds survive an error or a signal
            if (session.folder / SHARDS).is_dir():
                _count_rows(session)
                session.save()

    def _options(self, options: Options) -> TableOptions:
        """The manifest's img2dataset options, overridden by the user's."""
        given: dict[str, Any] = dict(self.options)
        if options.engine is not None:
            given["distributor"] = options.engine
        if options.workers is not None:
            given["processes_count"] = options.workers
        return TableOptions(
            self.url_column,
            self.caption_column,
            None if self.columns is None else tuple(self.columns),
            given | dict(options.img2dataset),
        )

    def _checked_options(self, options: Options) -> TableOptions:
        """Like `_options`; raises FsckitError if img2dataset is missing or rejects them."""
        checked = self._options(options)
        find_img2dataset().check(checked.arguments())
        return checked

    def _fetch_table(self, session: Session) -> list[Path]:
        """The table's files; raises FsckitError if the user has not put them there."""
        if self.table is None:
            session.fetch_files(self.table_files, session.folder / SOURCES)
            return [session.folder / SOURCES / file.name for file in self.table_files]
        table = session.folder / self.table
        if not table.exists():
            raise FsckitError(
                f"{table}: file not found; put the table there, or list its addresses in the "
                f"manifest's table_files"
            )
        return find_table_files(table)


def _probe(session: Session, table: Sequence[Path], options: TableOptions) -> None:
    """Try a few rows; raises FsckitError if too few succeed or the images would fill the disk."""
    session.reporter.progress(Progress("probing", unit="rows"))
    staging = session.folder / STAGING
    with access(staging, "written"):
        staging.mkdir(exist_ok=True)
    probe = probe_rows(table, staging, options)
    reasons = join_counts(probe.outcomes)
    session.reporter.say(
        f"probe of {probe.rows:,} rows: {reasons}; all {probe.table_rows:,} would give "
        f"about {probe.expected_samples:,} samples"
    )
    wanted = session.options.min_success
    if probe.success_rate < (MIN_SUCCESS if wanted is None else wanted):
        raise FsckitError(
            f"{table[0]}: only {probe.success_rate:.0%} of {probe.rows:,} probed rows succeeded "
            f"({reasons}); lower `min_success` if that is enough"
        )
    session.check_space(probe.expected_bytes)


def _check_shards(folder: Path, missing: Sequence[str]) -> None:
    """Raises FsckitError if shards are missing: their URLs may now serve other images."""
    shards = [name for name in missing if name.startswith(f"{SHARDS}/")]
    if shards:
        raise FsckitError(
            f"{folder / shards[0]}: is missing or has changed ({len(shards):,} files are "
            f"affected); restore it, or download into another folder"
        )


def _count_rows(session: Session) -> None:
    """Record the shards' samples, and the table's other rows by reason."""
    outcomes = read_outcomes(session.folder / SHARDS)
    session.bytes += outcomes.bytes
    session.count_samples()
    skipped = Counter(read_job(session.folder).skipped)
    without = Counter(session.source.left_out)
    session.source.left_out = dict(without + outcomes.reasons + skipped)
