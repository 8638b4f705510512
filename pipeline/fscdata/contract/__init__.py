"""What the pipeline writes and the trainer reads: tars, tables, their metadata, their checks.

Both packages hold to it; the trainer imports this package and `fscdata.base`, nothing else of
`fscdata`.
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
    captions_inside,
    index_tar,
    split_member,
)
from fscdata.contract.writer import remove_temporary, temporary_files, write_parquet

__all__ = [
    "CLIP_BPE",
    "IMAGE_EXTENSIONS",
    "MAX_CAPTIONS",
    "SCHEMA_VERSION",
    "CaptionSource",
    "Dataset",
    "Footers",
    "Metadata",
    "Provenance",
    "ShardRecord",
    "TarIndex",
    "TarSample",
    "caption_hash",
    "captions_inside",
    "check_unique",
    "index_tar",
    "negatives_path",
    "negatives_schema",
    "open_dataset",
    "open_footers",
    "read_footers",
    "read_metadata",
    "read_table",
    "refuse_changed",
    "refuse_mixed",
    "refuse_orphans",
    "refuse_stale",
    "remove_temporary",
    "samples_path",
    "samples_schema",
    "shard_paths",
    "split_member",
    "styles_present",
    "temporary_files",
    "write_metadata",
    "write_parquet",
]
