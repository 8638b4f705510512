"""A data set repository on the Hugging Face hub."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fscdata.base.errors import FsckitError
from fscdata.base.progress import Progress, Reporter
from fscdata.download.fields import (
    SHARDS,
    FileName,
    Model,
    Patterns,
    RoughSize,
    Text,
    UserPath,
)
from fscdata.download.kind import Manifest, Options, PlannedFile
from fscdata.download.record import SourceFile
from fscdata.download.session import STAGING, Session
from fscdata.steps.archive import extract

if TYPE_CHECKING:
    from fscdata.download.hub import HubFile, Repository


class CaptionArchive(Model):
    """An archive in the repository that contains `<folder>/<key>.txt`, one caption per line."""

    file: FileName
    folder: UserPath


class Kind(Manifest):
    """Files of a data set repository, unchanged.

    `shards` go to `DATA/shards`, `files` to `DATA` itself. Both name files in the repository, as a
    series `{00000..00014}.tar`, which must be complete, or with a wildcard `*`, which may match no
    file. `revision` is a commit, tag or branch; default: the main branch.
    """

    kind: Literal["huggingface"]
    repository: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: Text | None = None
    shards: Patterns = []
    files: Patterns = []
    caption_archive: CaptionArchive | None = None
    about: RoughSize = None

    @property
    def expected_bytes(self) -> int | None:
        return self.about

    @property
    def has_samples(self) -> bool:
        return bool(self.shards)

    def planned_files(self, options: Options, reporter: Reporter) -> list[PlannedFile]:
        from fscdata.download.hub import UnreachableError, page  # noqa: PLC0415  (see _list)

        archive = self.caption_archive
        try:
            repository = self._list(self.revision, reporter)
        except UnreachableError as error:
            # The manifest alone tells what the data set is and about how large.
            reporter.say(f"{error}; this is what the manifest says")
            patterns = ", ".join([*self.shards, *self.files, *([archive.file] if archive else [])])
            return [PlannedFile(patterns, page(self.repository), self.about, False, listed=False)]
        shards, files = self._choose(repository)
        captions = repository.select([archive.file] if archive else [])
        chosen = {file.path: file for file in (*shards, *files, *captions)}
        return [
            PlannedFile(file.path, repository.address(file), file.size, exact=True)
            for file in chosen.values()
        ]

    def fetch(self, session: Session) -> None:
        # A resumed download stays at the commit that it started with.
        repository = self._list(session.source.commit or self.revision, session.reporter)
        session.source.commit = repository.commit
        session.save()

        folder, staging, archive = session.folder, session.folder / STAGING, self.caption_archive
        shards, files = self._choose(repository)
        # Readers would mistake the shards of an unfinished download for the whole data set. So
        # all shards appear in one rename; a missing one is restored in place.
        parent = folder if any((folder / SHARDS).glob("*")) else staging
        parts = [(shards, parent / SHARDS), (files, folder)]
        if archive is not None and not (folder / archive.folder).is_dir():
            parts.append((repository.select([archive.file]), staging))
        self._fetch_parts(session, repository, parts)

        captions = None
        if archive is not None:
            captions = folder / archive.folder
            if not captions.is_dir():
                session.reporter.progress(Progress(f"unpacking {archive.file}", unit="files"))
                extract(staging / archive.file, captions, (".txt",))
            session.source.folders = [archive.folder]
        if shards:
            if parent == staging:
                (staging / SHARDS).rename(folder / SHARDS)
            session.count_samples(captions)
        session.require(*(file.path for file in files))

    def _list(self, revision: str | None, reporter: Reporter) -> Repository:
        # huggingface_hub takes a second to import and is optional; listings do not need it.
        from fscdata.download.hub import list_files  # noqa: PLC0415

        return list_files(self.repository, revision, reporter.say)

    def _choose(self, repository: Repository) -> tuple[list[HubFile], list[HubFile]]:
        """The shards and the other files.

        Raises FsckitError if the repository lacks them, or a shard is in a subfolder.
        """
        shards, files = (
            repository.select(p, optional_stars=True) for p in (self.shards, self.files)
        )
        if not shards and (self.shards or not files):
            patterns = ", ".join(self.shards or self.files)
            raise FsckitError(
                f"{repository.name}: no file matches '{patterns}' at commit {repository.commit}; "
                f"correct the manifest's {'shards' if self.shards else 'files'}"
            )
        for file in shards:
            if "/" in file.path:
                raise FsckitError(
                    f"{repository.name}: the shard '{file.path}' is in a subfolder; list it "
                    f"under the manifest's files, and use that folder as the data set"
                )
        return shards, files

    def _fetch_parts(
        self,
        session: Session,
        repository: Repository,
        parts: list[tuple[list[HubFile], Path]],
    ) -> None:
        """Fetch lists of files, each into its folder."""
        targets = [(folder / file.path, file.size) for files, folder in parts for file in files]
        total = sum(size for _, size in targets)
        session.check_space(total, [path for path, _ in targets])
        progress = session.file_progress(total, len(targets))
        for files, folder in parts:
            fetched = repository.fetch_files(files, folder, progress.add, session.reporter.say)
            with closing(fetched):  # stops its threads on an error or a signal
                for file in fetched:
                    session.record(
                        SourceFile(
                            name=file.path,
                            address=file.address,
                            size=file.size,
                            sha256=file.sha256,
                        )
                    )
                    progress.finish_file()
