"""A data set's README.md: what its tables contain, and how to read them.

Its YAML header tells Hugging Face `datasets` which files belong together, so that
`load_dataset("DATA", "samples")` and `load_dataset("DATA", STYLE)` work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fscdata.base.files import write_text
from fscdata.base.paths import DataPath, access
from fscdata.contract import NEGATIVES_COLUMNS, SAMPLES, SAMPLES_COLUMNS, styles_present

CARD = "README.md"
_MARK = "<!-- fscdata make-negatives replaces this file; to keep your own, delete this line. -->"


def write_card(data: DataPath, empty: list[str]) -> None:
    """Write the card of a data set with tables, unless the user has written another.

    It leaves out `empty` styles, which have no rows: `datasets` refuses to load those.

    Raises:
        FsckitError: the file cannot be written.
    """
    path = data / CARD
    text = card([style for style in styles_present(data) if style not in empty])
    with access(path, "written"):
        before = path.read_text(encoding="utf-8") if path.exists() else _MARK
        if _MARK not in before or before == text:
            return
        if isinstance(path, Path):
            write_text(path, text)
        else:
            path.fs.pipe_file(path.path, text.encode())


def card(styles: list[str]) -> str:
    """The text of a card."""
    tables = {SAMPLES: f"{SAMPLES}/*.parquet"}
    tables |= {style: f"negatives/{style}/*.parquet" for style in styles}
    configs: list[dict[str, Any]] = [
        {"config_name": name, "data_files": [{"split": "train", "path": path}]}
        for name, path in tables.items()
    ]
    header = yaml.safe_dump({"configs": configs}, sort_keys=False)
    style = styles[0] if styles else "STYLE"
    return f"""---
{header}---
{_MARK}

# Images with captions and hard negatives

The tars contain the images. Each shard of a table, `00000.parquet`, belongs to the tar `00000.tar`.

`samples/*.parquet`: one row per caption.

{_rows(SAMPLES_COLUMNS)}

`negatives/STYLE/*.parquet`: one row per hard negative, a caption that an edit has made
false. Styles: {", ".join(styles) or "none"}. The footer of each file records how it was made, and
how many captions have no negative, by reason.

{_rows(NEGATIVES_COLUMNS)}

Captions with their negatives, in DuckDB:

```sql
SELECT caption, negative, operator
FROM 'negatives/{style}/*.parquet' JOIN 'samples/*.parquet' USING (key, caption_index)
```

With Hugging Face `datasets`:

```python
from datasets import load_dataset

samples = load_dataset("THIS FOLDER", "samples", split="train")
negatives = load_dataset("THIS FOLDER", "{style}", split="train")
```

`fscdata inspect`, `fscdata sql` and `fsctrain run --data` read this folder.
"""


def _rows(columns: dict[str, str]) -> str:
    lines = [f"| `{name}` | {meaning} |" for name, meaning in columns.items()]
    return "\n".join(["| column | contents |", "|---|---|", *lines])
