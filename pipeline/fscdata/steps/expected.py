"""The tables that make-negatives should produce, and which of them exist already."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import version

from fscdata.base.errors import FsckitError
from fscdata.base.parallel import parallel_map
from fscdata.base.paths import DataPath, access, entries, size_of
from fscdata.contract import (
    SAMPLES,
    CaptionSource,
    Metadata,
    Provenance,
    TarIndex,
    read_footers,
    read_metadata,
    refuse_orphans,
    styles_present,
    table_path,
)
from fscdata.lexicon import load_lexicon
from fscdata.negatives.model import installed_model
from fscdata.negatives.style import Style
from fscdata.recipes import parse_recipe
from fscdata.steps.generate import check_variants, max_variants
from fscdata.tokenizer import tokenizer_of


@dataclass(frozen=True)
class Settings:
    """The settings of make-negatives.

    Attributes:
        recipe: a recipe, a style, or a comma-separated list of both.
        variants: the maximum number of negatives per caption and style; by default one for each
            epoch of the published recipes.
        seed: the random seed.
        tokenizer: an open_clip model whose token ids are stored, or "none".
        captions: where a sample's captions come from.
    """

    recipe: str
    variants: int = 5
    seed: int = 0
    tokenizer: str = "ViT-B-32"
    captions: CaptionSource = CaptionSource()  # noqa: RUF009  (frozen)


class ExpectedTables:
    """The tables that the data set `data` should have under `settings`.

    Attributes:
        styles: the styles by name, in recipe order.
        provenances: the expected provenance of each table by its name, `SAMPLES` or a style.

    Raises:
        FsckitError: the recipe is unknown, `variants` is out of range, or the folder of captions
            is missing.
    """

    def __init__(self, data: DataPath, settings: Settings) -> None:
        check_variants(settings.variants)
        folder = settings.captions.folder
        if folder is not None and not folder.is_dir():
            raise FsckitError(f"{folder}: caption folder not found")
        self.data = data
        self.settings = settings
        self.styles = {style.name: style for style in parse_recipe(settings.recipe)}
        samples = Provenance(
            table=SAMPLES,
            caption_source=str(settings.captions),
            tokenizer=tokenizer_of(settings.tokenizer),
        )
        self.provenances: dict[str, Provenance] = {SAMPLES: samples} | {
            name: self._provenance(samples, style) for name, style in self.styles.items()
        }

    def variants(self, style: Style) -> int:
        """The maximum number of negatives per caption of a style."""
        return max_variants(style, self.settings.variants)

    def _provenance(self, samples: Provenance, style: Style) -> Provenance:
        """The provenance of a style's negatives."""
        model = vars(installed_model()) if style.uses_parse else {}
        return replace(
            samples,
            table="negatives",
            style=style.name,
            style_version=style.version,
            options=style.options
            | {name: version(name) for name in _libraries(style)}
            | ({"file_sha256": style.digest} if style.digest else {}),
            seed=self.settings.seed,
            variants=self.variants(style),
            lexicon_digest=load_lexicon().digest if style.uses_lexicon else None,
            **model,
        )

    def paths(self, shard: str) -> dict[str, DataPath]:
        """The paths of a shard's tables by name."""
        return {name: table_path(self.data, name, shard) for name in self.provenances}

    def finished(self, tar: DataPath, index: TarIndex) -> dict[str, int]:
        """The rows of each table of a shard that exists already, by name.

        Tables of a different provenance or an earlier version of the tar are left out.
        """
        expected = (size_of(tar), index.digest, index.captions_digest)
        finished = {}
        for name, path in self.paths(tar.stem).items():
            with access(path, "read"):
                exists = path.exists()
            if exists:
                footer = read_metadata(path)
                shard = footer.shard
                found = (shard.tar_size, shard.tar_digest, shard.captions_digest)
                if footer.provenance == self.provenances[name] and found == expected:
                    finished[name] = shard.rows
        return finished

    def footers(self, tars: list[DataPath]) -> dict[DataPath, Metadata]:
        """The metadata of the tars' existing tables."""
        stems = {tar.stem for tar in tars}
        folders = [path.parent for path in self.paths("").values()]
        existing = (path for folder in folders for path in entries(folder, ".parquet"))
        return read_footers([path for path in existing if path.stem in stems])

    def unfinished(self, tars: list[DataPath], footers: dict[DataPath, Metadata]) -> list[DataPath]:
        """The tars with a table that is missing or has a different provenance or tar size.

        A quick version of `finished` that does not open the tars.
        """
        sizes = parallel_map(size_of, tars)
        return [
            tar
            for tar, size in zip(tars, sizes, strict=True)
            if any(
                path not in footers
                or footers[path].shard.tar_size != size
                or footers[path].provenance != self.provenances[name]
                for name, path in self.paths(tar.stem).items()
            )
        ]

    def refuse_conflicts(self, footers: dict[DataPath, Metadata], overwrite: bool) -> None:
        """Raise FsckitError if existing tables conflict with the expected ones.

        `overwrite` permits tables of these styles that were made with other settings. Tables of
        other styles must always have the same captions and tokens.
        """
        refuse_orphans(self.data)
        samples = self.provenances[SAMPLES]
        for style in set(styles_present(self.data)) - self.styles.keys():
            path = entries(self.data / "negatives" / style, ".parquet")[0]
            theirs = read_metadata(path).provenance
            if (theirs.caption_source, theirs.tokenizer) != (
                samples.caption_source,
                samples.tokenizer,
            ):
                raise FsckitError(
                    f"{path.parent}: made from captions {theirs.caption_source!r} with tokenizer "
                    f"'{theirs.tokenizer or 'none'}', not {samples.caption_source!r} and "
                    f"'{samples.tokenizer or 'none'}'; add {style} to `recipe`, or delete "
                    f"that folder"
                )
        if overwrite:
            return
        ours = {path.parent: self.provenances[name] for name, path in self.paths("").items()}
        for path, footer in footers.items():
            for key, value in vars(ours[path.parent]).items():
                found = getattr(footer.provenance, key)
                if found != value:
                    raise FsckitError(
                        f"{path}: made with {key} {found!r}, not {value!r}; to remake it, add "
                        f"`overwrite`"
                    )


def _libraries(style: Style) -> tuple[str, ...]:
    """The libraries whose versions affect a style.

    thinc's version decides whether the fast parser is used.
    """
    return (*style.libraries, "thinc") if style.uses_parse else style.libraries
