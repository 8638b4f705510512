"""A manifest's URL table → shards, through img2dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fscdata.base.errors import FsckitError
from fscdata.base.paths import access
from fscdata.manifest import SOURCES, UrlsManifest
from fscdata.steps.work import STAGING, Progress, Work

if TYPE_CHECKING:
    from fscdata.download.urls import UrlOptions


def bring_urls(work: Work, manifest: UrlsManifest) -> None:
    """Fetch the table, try a few of its rows, and download the pictures."""
    from fscdata.download import urls  # noqa: PLC0415

    options = check_options(manifest, work.options.img2dataset)  # before a long table comes
    table = _table(work, manifest)
    if not (work.folder / "urls").exists():  # what is gone on with was probed
        _probe(work, table, options)
    count = work.show.counter("downloading", "rows")
    work.bytes += urls.download_table(table, work.folder, options, count).bytes
    if work.options.retries:
        from fscdata.download.urls.retry import retry  # noqa: PLC0415

        again = work.show.counter("downloading again", "rows")
        work.bytes += retry(work.folder, work.options.retries, again).bytes
    count_rows(work)


def _table(work: Work, manifest: UrlsManifest) -> list[Path]:
    """The table's files, when they are there."""
    from fscdata.download.urls.table import table_files  # noqa: PLC0415

    if manifest.table is None:
        work.fetch(manifest.table_files, work.folder / SOURCES)
        return [work.folder / SOURCES / file.name for file in manifest.table_files]
    table = work.folder / manifest.table
    if not table.exists():
        raise FsckitError(
            f"{table}: is not there; put the table there, or give its addresses in the manifest's "
            f"table_files"
        )
    return table_files(table)


def refuse_lost_shards(folder: Path, lost: Sequence[str]) -> None:
    """Raises FsckitError where shards are lost: their URLs may give other pictures by now."""
    shards = [name for name in lost if name.startswith("shards/")]
    if shards:
        raise FsckitError(
            f"{folder / shards[0]}: is lost or has changed ({len(shards):,} files have); bring it "
            f"back, or download into another folder"
        )


def _probe(work: Work, table: Sequence[Path], options: UrlOptions) -> None:
    """Try a few rows, and stop where too few of them come."""
    from fscdata.download.urls.probe import probe  # noqa: PLC0415

    work.show.progress(Progress("probing", "rows"))
    staging = work.folder / STAGING
    with access(staging, "written"):
        staging.mkdir(exist_ok=True)
    found = probe(table, staging, options)
    reasons = ", ".join(f"{reason}: {n:,}" for reason, n in found.histogram.items())
    work.show.say(
        f"probe of {found.rows:,} rows: {reasons}; the table's {found.table_rows:,} would give "
        f"about {found.expected_samples:,} samples"
    )
    if found.success_rate < work.options.min_success:
        raise FsckitError(
            f"{table[0]}: {found.success_rate:.0%} of the {found.rows:,} rows that were tried came "
            f"({reasons}); give a lower --min-success if that is enough"
        )
    work.need_space(found.expected_bytes, [])


def check_options(manifest: UrlsManifest, given: Mapping[str, Any]) -> UrlOptions:
    """The options, of the manifest and the user.

    Raises FsckitError where img2dataset is missing or does not take them.
    """
    from fscdata.download.urls.img2dataset_process import find_img2dataset  # noqa: PLC0415

    options = _url_options(manifest, given)
    find_img2dataset().check(options.arguments())
    return options


def _url_options(manifest: UrlsManifest, given: Mapping[str, Any]) -> UrlOptions:
    """The options of the manifest, over them those of the user."""
    from fscdata.download.urls import UrlOptions  # noqa: PLC0415

    return UrlOptions(
        url_col=manifest.url_column,
        caption_col=manifest.caption_column,
        columns=None if manifest.columns is None else tuple(manifest.columns),
        extra={**manifest.options, **given},
    )


def refuse_other_options(folder: Path, manifest: UrlsManifest, given: Mapping[str, Any]) -> None:
    """Raises FsckitError where a finished data set has other pictures than the options ask for."""
    from fscdata.download.urls import read_plan  # noqa: PLC0415

    if not read_plan(folder).allows(_url_options(manifest, given).arguments()):
        raise FsckitError(
            f"{folder}: was made with other options of img2dataset (see urls/plan.json in it); "
            f"leave them out, or take another folder"
        )


def count_rows(work: Work) -> None:
    """Bring the record up to date with the shards and what img2dataset says of its rows."""
    from fscdata.download.urls import read_plan  # noqa: PLC0415
    from fscdata.download.urls.shards import read_outcomes, shard_names  # noqa: PLC0415

    shards = work.folder / "shards"
    failures = Counter(read_outcomes(shards, shard_names(shards)).failures.values())
    work.count_samples(None)
    skipped = Counter(read_plan(work.folder).skipped)
    work.source.left_out = dict(Counter(work.source.left_out) + failures + skipped)
