"""A file that has come in part: its bytes so far, and a record of where they are from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from fscdata.base.files import TEMPORARY, sync


@dataclass(frozen=True)
class Origin:
    """Where a file's bytes are from. `etag` is a strong one; `total` are bytes, None if unsaid."""

    address: str
    etag: str | None
    total: int | None


class Partial:
    """The part of `target` that has come, beside it under names of its own.

    `origin` is None where nothing has come, or nobody knows from where.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f".{target.name}{TEMPORARY}")
        self._record = target.with_name(f".{target.name}.origin{TEMPORARY}")
        self.origin = self._read_origin() if self.path.is_file() else None

    @property
    def size(self) -> int:
        """Bytes that can be gone on from."""
        return self.path.stat().st_size if self.origin else 0

    def begin(self, origin: Origin) -> None:
        """Forget what has come; from now on bytes come from `origin`."""
        self.discard()  # first, so that the record is never that of other bytes
        self._record.write_text(json.dumps(asdict(origin)))
        self.path.touch()
        self.origin = origin

    def append(self) -> IO[bytes]:
        return self.path.open("ab")

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)
        self.origin = None

    def commit(self) -> None:
        """Give the whole file its name, for good."""
        sync(self.path)
        self.path.replace(self.target)
        sync(self.target.parent)
        self.discard()

    def _read_origin(self) -> Origin | None:
        try:
            return Origin(**json.loads(self._record.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
