"""The kinds of manifest: what each says of where its data set comes from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from fscdata.manifest.fields import (
    Bytes,
    CaptionArchive,
    Files,
    Licence,
    Model,
    OwnName,
    Packs,
    Patterns,
    RelativePath,
    RemoteFile,
    Text,
    in_shards,
    refuse_twice,
)

TABLE_SUFFIXES = (".tsv", ".csv", ".parquet")
Scalar = str | int | float | bool


class _Manifest(Model):
    title: Text
    captions: Text
    licence: Licence
    citation: Text
    on_disk: Text
    command: Text | None = None
    note: Text | None = None

    def plan(self) -> list[RemoteFile]:
        """The files that the manifest names one by one."""
        return []

    @property
    def expected_bytes(self) -> int | None:
        """Bytes to fetch, as far as the manifest knows them; None where it knows nothing."""
        return sum(file.expected_size or 0 for file in self.plan()) or None


class HuggingfaceManifest(_Manifest):
    """A data set repository of the Hugging Face hub.

    `shards` and `files` name files of the repository, as `{00000..00014}.tar`, where each must be
    there, or with `*`, which may stand for none; those go to `DATA/shards`, these to `DATA` itself.
    `revision` is a commit, tag or branch; the main branch where it is left out.
    """

    kind: Literal["huggingface"]
    repository: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: Text | None = None
    shards: Patterns = []
    files: Patterns = []
    caption_archive: CaptionArchive | None = None
    about: Bytes | None = None

    @property
    def expected_bytes(self) -> int | None:
        return self.about


class ArchiveManifest(_Manifest):
    """Zips or tars of pictures, and caption files; packed while the archives are read."""

    kind: Literal["archive"]
    archives: Annotated[Files, Field(min_length=1)]
    caption_files: Files = []
    packs: Packs

    @field_validator("caption_files")
    @classmethod
    def _beside_the_archives(
        cls, files: list[RemoteFile], info: ValidationInfo
    ) -> list[RemoteFile]:
        # They lie in one folder.
        refuse_twice(file.name for file in (*info.data.get("archives", []), *files))
        return files

    def plan(self) -> list[RemoteFile]:
        return [*self.caption_files, *self.archives]  # small ones first: they may be refused


class UrlsManifest(_Manifest):
    """A table of picture addresses and captions, for img2dataset.

    `table_files` are its files, TSV, CSV or Parquet, to be fetched; or else `table` is a file or a
    folder of them in the data set's folder, where the user has put it. `url_column` and
    `caption_column` name its columns. A TSV or CSV without a header has `columns`, the names of all
    its columns in order. `options` go to img2dataset.
    """

    kind: Literal["urls"]
    table_files: Files = []
    table: Annotated[OwnName | None, Field(validate_default=True)] = None
    url_column: Text
    caption_column: Text
    columns: list[Text] | None = None
    options: dict[str, Scalar | list[Scalar]] = {}

    @field_validator("table_files")
    @classmethod
    def _tables(cls, files: list[RemoteFile]) -> list[RemoteFile]:
        for file in files:
            if not file.name.lower().endswith(TABLE_SUFFIXES):
                raise ValueError(
                    f"'{file.name}' is no table of addresses; one ends in "
                    f"{', '.join(TABLE_SUFFIXES)}"
                )
        return files

    @field_validator("table")
    @classmethod
    def _one_or_the_other(cls, table: str | None, info: ValidationInfo) -> str | None:
        if (table is None) == (not info.data.get("table_files", [])):
            raise ValueError(
                "either table_files, which are fetched, or table, which lies in the data set's "
                "folder, says where the addresses are; give one of them"
            )
        return table

    def plan(self) -> list[RemoteFile]:
        return self.table_files


class LocalManifest(_Manifest):
    """Pictures that a person has to fetch by hand, into the folder `pictures` of the data set.

    `instructions` say how, in a sentence.
    """

    kind: Literal["local"]
    packs: Packs
    pictures: RelativePath
    instructions: Text
    caption_files: Files = []

    @field_validator("pictures")
    @classmethod
    def _apart_from_the_shards(cls, folder: str, info: ValidationInfo) -> str:
        if in_shards(folder, info.data.get("packs", [])):
            raise ValueError(f"'{folder}' is where the shards are made; take another folder")
        return folder

    def plan(self) -> list[RemoteFile]:
        return self.caption_files


class FilesManifest(_Manifest):
    """Plain files, kept as they are."""

    kind: Literal["files"]
    files: Annotated[Files, Field(min_length=1)]

    def plan(self) -> list[RemoteFile]:
        return self.files


Manifest = HuggingfaceManifest | ArchiveManifest | UrlsManifest | LocalManifest | FilesManifest
