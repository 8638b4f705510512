"""What a download would fetch: files, sizes, addresses."""

from __future__ import annotations

from dataclasses import dataclass

from fscdata.manifest import HuggingfaceManifest, Manifest, UrlsManifest
from fscdata.steps.bring import choose
from fscdata.steps.bring_urls import check_options
from fscdata.steps.work import SILENT, Options, Show


@dataclass(frozen=True)
class PlannedFile:
    """A file to fetch; `size` in bytes, None where it is not known, published if it is `exact`."""

    name: str
    address: str
    size: int | None
    exact: bool


def plan(manifest: Manifest, options: Options, show: Show = SILENT) -> list[PlannedFile]:
    """What a download would fetch; a hub is asked for its list, servers for unpublished sizes.

    Raises:
        FsckitError: the hub cannot be reached or refuses, img2dataset is missing or does not take
            the options.
    """
    if isinstance(manifest, HuggingfaceManifest):
        return _plan_repository(manifest, show)
    if isinstance(manifest, UrlsManifest):
        check_options(manifest, options.img2dataset)
    from fscdata.download.sizes import ask_sizes  # noqa: PLC0415

    files = manifest.plan()
    asked = ask_sizes([file for file in files if file.size is None])
    return [
        PlannedFile(
            file.name,
            file.addresses[0],
            asked.get(file.name, file.expected_size),
            exact=file.size is not None,
        )
        for file in files
    ]


def _plan_repository(manifest: HuggingfaceManifest, show: Show) -> list[PlannedFile]:
    from fscdata.download import huggingface  # noqa: PLC0415

    repository = huggingface.list_files(manifest.repository, manifest.revision, show.say)
    archive = manifest.caption_archive
    shards, files = choose(repository, manifest)
    captions = huggingface.select(repository, [archive.file] if archive else [])
    chosen = {file.path: file for file in (*shards, *files, *captions)}
    return [
        PlannedFile(file.path, repository.address(file), file.size, True)
        for file in chosen.values()
    ]
