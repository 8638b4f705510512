"""The base class of all kinds of manifest, and the options of a download."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from fscdata.base.errors import FsckitError
from fscdata.base.progress import Reporter
from fscdata.download.fields import (
    SHARDS,
    Licence,
    Model,
    OptionalProse,
    Prose,
    RemoteFile,
    Text,
)

if TYPE_CHECKING:
    from fscdata.download.session import Session


@dataclass(frozen=True)
class Options:
    """How to download; None and False leave the choice to the manifest's kind.

    Attributes:
        keep_archives: whether to keep archives after packing their images.
        min_success: share of a URL table's probed rows that must succeed.
        retries: retry rounds for rows of a URL table that failed temporarily.
        engine: img2dataset's distributor.
        workers: number of img2dataset processes.
        img2dataset: other img2dataset options.
    """

    keep_archives: bool = False
    min_success: float | None = None
    retries: int = 0
    engine: str | None = None
    workers: int | None = None
    img2dataset: Mapping[str, Any] = field(default_factory=dict)


DEFAULTS = Options()


@dataclass(frozen=True)
class PlannedFile:
    """A file to fetch; `size` [bytes] is None if unknown, and published if `exact`.

    If `listed` is false, `name` is the patterns of files that could not be listed.
    """

    name: str
    address: str
    size: int | None
    exact: bool
    listed: bool = True


class Manifest(Model):
    """The fields and methods that all kinds of manifest share.

    A kind is a module `kinds/NAME.py` whose class `Kind` extends this one. Its fields are the
    manifest's. The dumped fields identify a data set; those that only describe it are `Prose`.
    """

    # The fields of `Options` that this kind reads; others are rejected.
    uses: ClassVar[frozenset[str]] = frozenset()

    kind: Text
    title: Prose
    captions: Prose
    licence: Annotated[Licence, Field(exclude=True)]
    citation: Prose
    on_disk: Prose
    command: OptionalProse = None
    note: OptionalProse = None

    def fetch(self, session: Session) -> None:
        """Fetch everything the manifest lists, and record the files that must stay.

        Raises:
            FsckitError: a source is unreachable or wrong, or the disk is too small.
        """
        raise NotImplementedError

    def remote_files(self) -> list[RemoteFile]:
        """The files that the manifest names individually."""
        return []

    def planned_files(self, options: Options, reporter: Reporter) -> list[PlannedFile]:
        """The files that `fetch` would fetch; asks servers for sizes that the manifest lacks.

        Raises:
            FsckitError: a server refuses, or an option is wrong.
        """
        # The HTTP library takes a while to import and is optional; listings do not need it.
        from fscdata.download.http import ask_sizes  # noqa: PLC0415

        files = self.remote_files()
        asked = ask_sizes([file for file in files if file.size is None])
        return [
            PlannedFile(
                file.name,
                file.addresses[0],
                asked.get(file.name, file.expected_size),
                exact=file.size is not None,
            )
            for file in files
        ]

    @property
    def expected_bytes(self) -> int | None:
        """Bytes to fetch, as far as the manifest says; None if it gives no size."""
        return sum(file.expected_size or 0 for file in self.remote_files()) or None

    @property
    def shard_folders(self) -> list[str]:
        """Folders for shards, which must have none before the download."""
        return [SHARDS]

    @property
    def has_samples(self) -> bool:
        """Whether the data set consists of samples; if so, having none is an error."""
        return True

    def check_missing(self, folder: Path, missing: Sequence[str]) -> None:
        """Raises FsckitError if `fetch` cannot restore these recorded files."""

    def check_finished(self, folder: Path, options: Options) -> None:
        """Raises FsckitError if the options require something a finished data set lacks."""

    def planning_notes(self, folder: Path) -> list[str]:
        """Notes for a user who is planning a download."""
        return []

    def closing_notes(self, folder: Path, left_out: Mapping[str, int]) -> list[str]:
        """Notes for a user whose download is finished; `left_out` counts by reason."""
        return []

    @classmethod
    def retry_rows(cls, session: Session, times: int) -> None:
        """Retry rows that failed temporarily, in up to `times` rounds.

        Raises:
            FsckitError: the kind has nothing to retry.
        """
        raise FsckitError(
            f"{session.folder}: only URL tables can be retried; rerun 'fscdata download' to "
            f"restore this data set's files"
        )

    def check_options(self, options: Options) -> None:
        """Raises FsckitError for options that this kind does not use."""
        given = {name for name, value in vars(options).items() if value != getattr(DEFAULTS, name)}
        if unused := [name for name in vars(options) if name in given - self.uses]:
            names = ", ".join(f"`{name}`" for name in unused)
            raise FsckitError(f"kind '{self.kind}' does not use {names}; omit the option")

    def identity(self) -> dict[str, Any]:
        """The fields that identify a data set; changing others keeps it valid."""
        return self.model_dump(mode="json", exclude_defaults=True)
