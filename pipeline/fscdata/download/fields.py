"""The types of a manifest's fields, and how they are validated."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from pathlib import PurePosixPath
from typing import Annotated
from urllib.parse import urlsplit

from braceexpand import braceexpand
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

SOURCE_FILE = "SOURCE.json"  # the record of a download, in the data set's folder
SHARDS = "shards"
SOURCES = "sources"  # folder of the files that shards are made from
MAX_FILES = 100_000  # per name with braces
OWN_FOLDERS = (SHARDS, SOURCES, "urls")  # created in a data set's folder by the download


def _address(text: str) -> str:
    """An absolute http or https address."""
    parts = urlsplit(text)  # its ValueError reads well enough
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"'{text}' is not an http:// or https:// address")
    return text


def _relative(text: str) -> str:
    """A path inside the data set's folder, normalized."""
    path = PurePosixPath(text)
    if not path.parts and text != ".":
        raise ValueError("the name is empty")
    if path.is_absolute() or ".." in path.parts or "\\" in text or not text.isprintable():
        raise ValueError(f"'{text}' leaves the data set's folder or is not a plain path")
    if path.name == SOURCE_FILE:
        raise ValueError(f"'{SOURCE_FILE}' is the download's own record; rename the file")
    if any(part.startswith(".") for part in path.parts):
        raise ValueError(f"'{text}' starts with a dot, like the download's own files; rename it")
    return str(path)


def _file_name(text: str) -> str:
    """A file, not the data set's folder itself."""
    if text == ".":
        raise ValueError("'.' does not name a file")
    return text


def _outside_own_folders(text: str) -> str:
    """A path outside the folders that the download creates."""
    if PurePosixPath(text).parts[0] in OWN_FOLDERS:
        raise ValueError(f"'{text}' is in a folder that the download creates; rename it")
    return text


def check_unique(names: Iterable[str]) -> None:
    """Raises ValueError for a name that occurs twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"'{name}' occurs twice; keep one")
        seen.add(name)


Address = Annotated[str, AfterValidator(_address)]
RelativePath = Annotated[str, AfterValidator(_relative)]
FileName = Annotated[RelativePath, AfterValidator(_file_name)]
UserPath = Annotated[FileName, AfterValidator(_outside_own_folders)]
Patterns = list[RelativePath]
Text = Annotated[str, Field(min_length=1)]
Bytes = Annotated[int, Field(ge=0)]

# Fields excluded from dumps do not identify a data set: a download stays valid when they change.
Prose = Annotated[Text, Field(exclude=True)]
OptionalProse = Annotated[Text | None, Field(exclude=True)]
RoughSize = Annotated[Bytes | None, Field(exclude=True)]


class Model(BaseModel):
    """A frozen, strict model that rejects unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Licence(Model):
    """`terms` sums up the licence in a sentence; `link` points to its text."""

    name: Text
    link: Address
    terms: Text


class RemoteFile(Model):
    """One file over HTTP; several addresses are mirrors, tried in turn.

    Braces in the name, as in `{00000..00127}.parquet`, and in the addresses stand for many files.
    `size` [bytes] and `sha256` are published values, which the file must match. `about` [bytes] is
    a rounded size, for estimates only.
    """

    name: FileName
    addresses: Annotated[list[Address], Field(min_length=1, exclude=True)]
    size: Bytes | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    about: RoughSize = None

    @property
    def expected_size(self) -> int | None:
        """Bytes, exact or rounded; None if unknown."""
        return self.about if self.size is None else self.size


def _expand_files(files: list[RemoteFile]) -> list[RemoteFile]:
    """Files with unique names; one with braces in its name becomes many."""
    files = [one for file in files for one in _expand(file)]
    check_unique(file.name for file in files)
    return files


def _expand(file: RemoteFile) -> list[RemoteFile]:
    names = expand_braces(file.name)
    if names == [file.name]:
        return [file]
    rows = [expand_braces(address) for address in file.addresses]
    if any(len(row) != len(names) for row in rows):
        raise ValueError(
            f"'{file.name}' expands to {len(names):,} files; each address must too, in "
            f"the same order"
        )
    if file.size is not None or file.sha256 is not None:
        raise ValueError(f"'{file.name}' expands to many files; remove its size and sha256")
    # The expanded names and addresses need the same checks as the originals.
    names = [_file_name(_relative(name)) for name in names]
    each = [[_address(address) for address in addresses] for addresses in zip(*rows, strict=True)]
    return [
        file.model_copy(update={"name": name, "addresses": addresses})
        for name, addresses in zip(names, each, strict=True)
    ]


def expand_braces(text: str) -> list[str]:
    """The texts that braces stand for, as in a shell.

    Raises:
        ValueError: a brace is not closed, or the braces stand for too many texts.
    """
    # braceexpand builds a whole range in memory, so a huge one must be rejected first.
    spans = (abs(int(b) - int(a)) for a, b in re.findall(r"\{(-?\d{1,18})\.\.(-?\d{1,18})", text))
    too_many = any(span > MAX_FILES for span in spans)
    try:
        expanded = [] if too_many else list(islice(braceexpand(text), MAX_FILES + 1))
    except ValueError:
        raise ValueError(f"'{text}': a brace is not closed") from None
    if not 0 < len(expanded) <= MAX_FILES:
        raise ValueError(f"'{text}' expands to more than {MAX_FILES:,} files; list fewer")
    return expanded


Files = Annotated[list[RemoteFile], AfterValidator(_expand_files)]
