"""A data set's manifest, `data_manifests/NAME.yaml`: where it comes from and under which terms.

What its source does not publish (a digest, an exact size, a revision) is left out; the download
finds it out and records it in the data set's `SOURCE.json`.
"""

from fscdata.manifest.fields import (
    SOURCE_FILE,
    SOURCES,
    CaptionArchive,
    Licence,
    Pack,
    RemoteFile,
    expand_braces,
)
from fscdata.manifest.kinds import (
    TABLE_SUFFIXES,
    ArchiveManifest,
    FilesManifest,
    HuggingfaceManifest,
    LocalManifest,
    Manifest,
    UrlsManifest,
)
from fscdata.manifest.load import load_manifest, read_manifest, shipped_manifests
from fscdata.manifest.yaml_lines import read_value

__all__ = [
    "SOURCES",
    "SOURCE_FILE",
    "TABLE_SUFFIXES",
    "ArchiveManifest",
    "CaptionArchive",
    "FilesManifest",
    "HuggingfaceManifest",
    "Licence",
    "LocalManifest",
    "Manifest",
    "Pack",
    "RemoteFile",
    "UrlsManifest",
    "expand_braces",
    "load_manifest",
    "read_manifest",
    "read_value",
    "shipped_manifests",
]
