"""Which columns of a table hold the images and the captions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fscdata.base.errors import FsckitError
from fscdata.base.text import printable

IMAGE_COLUMNS = ("image", "filename", "file_name", "filepath", "file", "image_name")
CAPTION_COLUMNS = ("caption", "captions", "title", "text", "sentence", "raw", "comment")
NEGATIVES_COLUMN = "neg_caption"  # NegCLIP's published negatives of the row's caption


@dataclass(frozen=True)
class Columns:
    """How to read a table; None finds it out from the file.

    Attributes:
        image, caption: names of the columns.
        sep: the separator of a text table, one character.
    """

    image: str | None = None
    caption: str | None = None
    sep: str | None = None

    def find(self, path: Path, names: Iterable[str]) -> tuple[str, str]:
        """The image column and the caption column among lower-case names.

        Raises:
            FsckitError: a column is missing.
        """
        present = list(names)
        columns = []
        for kind, chosen, known in (
            ("image", self.image, IMAGE_COLUMNS),
            ("caption", self.caption, CAPTION_COLUMNS),
        ):
            accepted = known if chosen is None else (chosen.strip().lower(),)
            name = next((name for name in accepted if name in present), None)
            if name is None:
                shown = ", ".join(f"'{printable(name[:40])}'" for name in present[:20]) or "none"
                wanted = f"'{printable(chosen)}'" if chosen else f"one of {', '.join(accepted)}"
                raise FsckitError(
                    f"{path}: no {kind} column; found {shown}, expected {wanted}; name it with "
                    f"`{kind}_column`"
                )
            columns.append(name)
        return columns[0], columns[1]

    def fits(self, path: Path, names: Iterable[str]) -> bool:
        """Whether both columns are among the names."""
        try:
            self.find(path, names)
        except FsckitError:
            return False
        return True
