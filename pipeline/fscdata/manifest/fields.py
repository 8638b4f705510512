"""What the fields of a manifest hold, and what they refuse."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from pathlib import PurePosixPath
from typing import Annotated
from urllib.parse import urlsplit

from braceexpand import braceexpand
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

SOURCE_FILE = "SOURCE.json"  # the record of a finished download, in the data set's folder
SHARDS = "shards"
SOURCES = "sources"  # what was fetched to make shards of
MOST = 100_000  # files that braces may stand for
OWN_FOLDERS = (SHARDS, SOURCES, "urls")  # in a data set's folder, made by the download


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


def _not_ours(text: str) -> str:
    """A name apart from the folders that the download makes."""
    if PurePosixPath(text).parts[0] in OWN_FOLDERS:
        raise ValueError(f"'{text}' lies where the download keeps files of its own; rename it")
    return text


def refuse_twice(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"'{name}' comes twice; keep one")
        seen.add(name)


Address = Annotated[str, AfterValidator(_address)]
RelativePath = Annotated[str, AfterValidator(_relative)]
FileName = Annotated[RelativePath, AfterValidator(_file_name)]
OwnName = Annotated[FileName, AfterValidator(_not_ours)]
Patterns = list[RelativePath]
Text = Annotated[str, Field(min_length=1)]
Bytes = Annotated[int, Field(ge=0)]


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Licence(Model):
    """`terms` is what it asks for, in a sentence; `link` leads to its text."""

    name: Text
    link: Address
    terms: Text


class RemoteFile(Model):
    """One file over HTTP; several addresses are mirrors, tried in turn.

    Braces in the name, as in `{00000..00127}.parquet`, and in the addresses stand for many files.

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


class Pack(Model):
    """A caption file whose pictures become shards in `folder`, one sample an image.

    `captions` is the name of one of the manifest's `caption_files`, else a path in the data set's
    folder, where the user has put it.
    """

    captions: FileName
    folder: RelativePath = "."


def _files(files: list[RemoteFile]) -> list[RemoteFile]:
    """Files of which each has a name of its own; one with braces in its name stands for many."""
    files = [one for file in files for one in _expand(file)]
    refuse_twice(file.name for file in files)
    return files


def _expand(file: RemoteFile) -> list[RemoteFile]:
    """The files of a name such as `{00000..00127}.parquet`, whose addresses have the like."""
    names = expand_braces(file.name)
    if names == [file.name]:
        return [file]
    rows = [expand_braces(address) for address in file.addresses]
    if any(len(row) != len(names) for row in rows):
        raise ValueError(
            f"'{file.name}' stands for {len(names):,} files; write an address that stands for as "
            f"many, in the same order"
        )
    if file.size is not None or file.sha256 is not None:
        raise ValueError(f"'{file.name}' stands for many files, which have no one size or digest")
    # What braces stand for may lead elsewhere than they did.
    names = [_file_name(_relative(name)) for name in names]
    each = [[_address(address) for address in addresses] for addresses in zip(*rows, strict=True)]
    return [
        file.model_copy(update={"name": name, "addresses": addresses})
        for name, addresses in zip(names, each, strict=True)
    ]


def expand_braces(text: str) -> list[str]:
    """What the braces of a text stand for, as in a shell.

    Raises:
        ValueError: a brace is not closed, or they stand for too many.
    """
    spans = (abs(int(b) - int(a)) for a, b in re.findall(r"\{(-?\d{1,18})\.\.(-?\d{1,18})", text))
    try:
        found = [] if any(s > MOST for s in spans) else list(islice(braceexpand(text), MOST + 1))
    except ValueError:
        raise ValueError(f"'{text}': a brace is not closed") from None
    if not 0 < len(found) <= MOST:
        raise ValueError(f"'{text}' stands for more than {MOST:,} files; name fewer")
    return found


def in_shards(folder: str, packs: Iterable[Pack]) -> bool:
    """Whether a folder would be replaced when shards are made."""
    path = PurePosixPath(folder)
    return any(path.is_relative_to(PurePosixPath(pack.folder, SHARDS)) for pack in packs)


def _packs(packs: list[Pack]) -> list[Pack]:
    """Packs of which each has a folder of its own."""
    refuse_twice(pack.folder for pack in packs)
    for pack in packs:
        if in_shards(pack.folder, packs):
            raise ValueError(f"'{pack.folder}' lies in the shards of a pack; take another folder")
    return packs


Files = Annotated[list[RemoteFile], AfterValidator(_files)]
Packs = Annotated[list[Pack], Field(min_length=1), AfterValidator(_packs)]


class CaptionArchive(Model):
    """An archive of the repository that holds `<folder>/<key>.txt`, a caption a line."""

    file: FileName
    folder: OwnName
