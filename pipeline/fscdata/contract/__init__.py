"""What the pipeline writes and the trainer reads: tars, tables, their metadata, their checks.

The trainer imports this package and nothing else of `fscdata`; it needs pyarrow and no more.
"""

from fscdata.contract.dataset import (
    Dataset,
    Footers,
    check_unique,
    open_dataset,
    open_footers,
    refuse_changed,
    refuse_mixed,
    refuse_orphans,
    refuse_stale,
)
from fscdata.contract.errors import FsckitError
from fscdata.contract.location import (
    DataPath,
    PathT,
    access,
    at_once,
    cannot_be,
    data_path,
    entries,
    open_binary,
    size_of,
)
from fscdata.contract.schema import (
    CLIP_BPE,
    SCHEMA_VERSION,
    Provenance,
    ShardRecord,
    caption_hash,
    negatives_schema,
    samples_schema,
)
from fscdata.contract.tables import (
    Metadata,
    negatives_path,
    read_footers,
    read_metadata,
    read_table,
    samples_path,
    shard_paths,
    styles_present,
    write_metadata,
)
from fscdata.contract.tar import (
    IMAGE_EXTENSIONS,
    MAX_CAPTIONS,
    CaptionSource,
    TarIndex,
    TarSample,
    index_tar,
)
from fscdata.contract.text import is_unicode, printable

__all__ = [
    "CLIP_BPE",
    "IMAGE_EXTENSIONS",
    "MAX_CAPTIONS",
    "SCHEMA_VERSION",
    "CaptionSource",
    "DataPath",
    "Dataset",
    "Footers",
    "FsckitError",
    "Metadata",
    "PathT",
    "Provenance",
    "ShardRecord",
    "TarIndex",
    "TarSample",
    "access",
    "at_once",
    "cannot_be",
    "caption_hash",
    "check_unique",
    "data_path",
    "entries",
    "index_tar",
    "is_unicode",
    "negatives_path",
    "negatives_schema",
    "open_binary",
    "open_dataset",
    "open_footers",
    "printable",
    "read_footers",
    "read_metadata",
    "read_table",
    "refuse_changed",
    "refuse_mixed",
    "refuse_orphans",
    "refuse_stale",
    "samples_path",
    "samples_schema",
    "shard_paths",
    "size_of",
    "styles_present",
    "write_metadata",
]
