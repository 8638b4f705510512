"""What the pipeline writes and the trainer reads: tars, tables, their metadata, their checks.

The trainer imports this package and nothing else of `fscdata`; it needs pyarrow and no more.
"""

from fscdata.contract.errors import FsckitError
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
    Dataset,
    Metadata,
    check_unique,
    negatives_path,
    open_dataset,
    read_metadata,
    read_table,
    refuse_mixed,
    refuse_orphans,
    refuse_stale,
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
    is_unicode,
    printable,
)

__all__ = [
    "CLIP_BPE",
    "IMAGE_EXTENSIONS",
    "MAX_CAPTIONS",
    "SCHEMA_VERSION",
    "CaptionSource",
    "Dataset",
    "FsckitError",
    "Metadata",
    "Provenance",
    "ShardRecord",
    "TarIndex",
    "TarSample",
    "caption_hash",
    "check_unique",
    "index_tar",
    "is_unicode",
    "negatives_path",
    "negatives_schema",
    "open_dataset",
    "printable",
    "read_metadata",
    "read_table",
    "refuse_mixed",
    "refuse_orphans",
    "refuse_stale",
    "samples_path",
    "samples_schema",
    "shard_paths",
    "styles_present",
    "write_metadata",
]
