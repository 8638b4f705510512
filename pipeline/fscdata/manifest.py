"""A data set's manifest, `data_manifests/NAME.yaml`: where it comes from and under which terms.

What its source does not publish (a digest, an exact size, a revision) is left out; the download
finds it out and records it in the data set's `SOURCE.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from fscdata.contract import FsckitError, printable
from fscdata.yaml_lines import Node, place, read_yaml

FOLDER = "data_manifests"  # of the shipped manifests
SOURCE_FILE = "SOURCE.json"  # the record of a finished download, in the data set's folder


def _address(text: str) -> str:
    """An absolute http or https address."""
    parts = urlsplit(text)  # a ValueError of its own is fine here
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"'{text}' is no http:// or https:// address")
    return text


def _relative(text: str) -> str:
    """A path inside the data set's folder, in its shortest form."""
    path = PurePosixPath(text)
    if not path.parts and text != ".":
        raise ValueError("the name is empty")
    if path.is_absolute() or ".." in path.parts or "\\" in text or not text.isprintable():
        raise ValueError(f"'{text}' leads out of the data set's folder or is no plain path")
    if path.name == SOURCE_FILE:
        raise ValueError(f"'{SOURCE_FILE}' is the name of the download's own record")
    if any(part.startswith(".") for part in path.parts):
        raise ValueError(f"'{text}' begins with a dot, as the download's own files do; rename it")
    return str(path)


def _file_name(text: str) -> str:
    """A file, not the data set's folder itself."""
    if text == ".":
        raise ValueError("'.' names no file")
    return text


def _refuse_twice(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"'{name}' comes twice; keep one")
        seen.add(name)


Address = Annotated[str, AfterValidator(_address)]
RelativePath = Annotated[str, AfterValidator(_relative)]
FileName = Annotated[RelativePath, AfterValidator(_file_name)]
Patterns = list[RelativePath]
Text = Annotated[str, Field(min_length=1)]
Bytes = Annotated[int, Field(ge=0)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Licence(_Model):
    """`terms` is what it asks for, in a sentence; `link` leads to its text."""

    name: Text
    link: Address
    terms: Text


class RemoteFile(_Model):
    """One file over HTTP; several addresses are mirrors, tried in turn.

    `size` [bytes] and `sha256` are published ones, which the file must have. `about` [bytes] is a
    rounded size, for the plan alone.
    """

    name: FileName
    addresses: Annotated[list[Address], Field(min_length=1)]
    size: Bytes | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    about: Bytes | None = None

    @property
    def expected_size(self) -> int | None:
        """Bytes, exact or about; None where nothing is known."""
        return self.about if self.size is None else self.size


class Pack(_Model):
    """A caption file whose pictures become shards in `folder`, one sample an image.

    `captions` is the name of one of the manifest's `caption_files`, else a path in the data set's
    folder, where the user has put it.
    """

    captions: FileName
    folder: RelativePath = "."


def _files(files: list[RemoteFile]) -> list[RemoteFile]:
    """Files of which each has a name of its own."""
    _refuse_twice(file.name for file in files)
    return files


def _in_shards(folder: str, packs: Iterable[Pack]) -> bool:
    """Whether a folder would be replaced when shards are made."""
    path = PurePosixPath(folder)
    return any(path.is_relative_to(PurePosixPath(pack.folder, "shards")) for pack in packs)


def _packs(packs: list[Pack]) -> list[Pack]:
    """Packs of which each has a folder of its own."""
    _refuse_twice(pack.folder for pack in packs)
    for pack in packs:
        if _in_shards(pack.folder, packs):
            raise ValueError(f"'{pack.folder}' lies in the shards of a pack; take another folder")
    return packs


Files = Annotated[list[RemoteFile], AfterValidator(_files)]
Packs = Annotated[list[Pack], Field(min_length=1), AfterValidator(_packs)]


class CaptionArchive(_Model):
    """An archive of the repository that holds `<folder>/<key>.txt`, a caption a line."""

    file: FileName
    folder: FileName


class _Manifest(_Model):
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
        _files([*info.data.get("archives", []), *files])  # they lie in one folder
        return files

    def plan(self) -> list[RemoteFile]:
        return [*self.caption_files, *self.archives]  # small ones first: they may be refused


class UrlsManifest(_Manifest):
    """A table of picture addresses and captions, for img2dataset.

    `url_column` and `caption_column` name the table's columns. A TSV or CSV without a header has
    `columns`, the names of all its columns in order. `options` go to img2dataset.
    """

    kind: Literal["urls"]
    table: RemoteFile
    url_column: Text
    caption_column: Text
    columns: list[Text] | None = None
    options: dict[str, str | int | float | bool] = {}

    def plan(self) -> list[RemoteFile]:
        return [self.table]


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
        if _in_shards(folder, info.data.get("packs", [])):
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
_ADAPTER: TypeAdapter[Manifest] = TypeAdapter(Annotated[Manifest, Field(discriminator="kind")])


def shipped_manifests() -> dict[str, Path]:
    """Name → file of the manifests that come with fsckit, by name."""
    here = Path(__file__).parent
    folder = here / FOLDER  # in a wheel; a checkout has it at its root
    if not folder.is_dir():
        folder = here.parents[1] / FOLDER
    return dict(sorted((path.stem, path) for path in folder.glob("*.yaml")))


def load_manifest(name_or_path: str) -> Manifest:
    """A shipped manifest by its name, or the user's own by its path (`….yaml`).

    Raises:
        FsckitError: there is none, or it says something that a manifest cannot; the file, line and
            field are named.
    """
    if Path(name_or_path).suffix in (".yaml", ".yml"):
        return read_manifest(Path(name_or_path))
    shipped = shipped_manifests()
    if name_or_path not in shipped:
        raise FsckitError(
            f"{name_or_path}: no such data set (there are: {', '.join(shipped)}); a manifest of "
            f"your own is named by its path, ending in .yaml"
        )
    return read_manifest(shipped[name_or_path])


def read_manifest(path: Path) -> Manifest:
    """As `load_manifest`, of a file."""
    node, value = read_yaml(path)
    try:
        return _ADAPTER.validate_python(value)
    except ValidationError as error:
        raise FsckitError(_sentence(path, node, error)) from None


def _sentence(path: Path, node: Node, error: ValidationError) -> str:
    """The first thing wrong with a manifest: file, line, field, what, and how many more."""
    first, *others = error.errors()
    # Of a field of a manifest of some kind, pydantic names the kind first.
    loc = ("kind",) if first["type"] == "union_tag_invalid" else first["loc"][1:]
    field, line = place(node, loc)
    more = f" (and {len(others)} more)" if others else ""
    return f"{path}, line {line}: {_problem(field, first)}{more}"


def _problem(field: str, error: Mapping[str, Any]) -> str:
    """A pydantic error as a clause."""
    match error["type"]:
        case "missing":
            return f"{field}: is missing; add it"
        case "extra_forbidden":
            return f"{field}: a manifest has no such field here; take it out"
        case "string_type":  # of a digest or commit made of figures alone, among others
            return f"{field}: is not text; put it in quotes"
        case "union_tag_not_found":
            return "kind: is missing; write huggingface, archive, urls, local or files"
        case "union_tag_invalid":
            given = printable(repr(error["ctx"]["tag"]))
            return f"kind: {given} is none of huggingface, archive, urls, local and files"
    message = printable(str(error["msg"]).removeprefix("Value error, "))
    return f"{field}: {message[0].lower()}{message[1:]}"
