"""What make-negatives is asked for, which files that is, and how each of them is made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import version

from fscdata.base.errors import FsckitError
from fscdata.base.parallel import parallel_map
from fscdata.base.paths import DataPath, access, entries, size_of
from fscdata.contract import (
    CaptionSource,
    Metadata,
    Provenance,
    TarIndex,
    negatives_path,
    read_footers,
    read_metadata,
    refuse_orphans,
    samples_path,
    styles_present,
)
from fscdata.lexicon import load_lexicon
from fscdata.negatives.model import installed_model
from fscdata.negatives.style import Style
from fscdata.recipes import parse_recipe
from fscdata.tokenizer import tokenizer_of

MAX_VARIANTS = 127  # int8


@dataclass(frozen=True)
class Settings:
    """What is made: the styles, how many variants of each, from which seed and captions."""

    recipe: str
    variants: int = 1
    seed: int = 0
    tokenizer: str = "ViT-B-32"
    captions: CaptionSource = CaptionSource()  # noqa: RUF009  (frozen)


def table_path(data: DataPath, style: str | None, shard: str) -> DataPath:
    """Where a shard's negatives of a style lie, or its samples (None)."""
    return samples_path(data, shard) if style is None else negatives_path(data, style, shard)


class Plan:
    """The tables that the settings ask of a data set; `styles` by name, in the recipe's order,
    and `provenances`, how each table is made here (None: the samples).

    Raises:
        FsckitError: no such recipe, too many variants, or no such folder of captions.
    """

    def __init__(self, data: DataPath, settings: Settings) -> None:
        if not 1 <= settings.variants <= MAX_VARIANTS:
            raise FsckitError(f"--variants {settings.variants}: takes 1 to {MAX_VARIANTS}")
        folder = settings.captions.folder
        if folder is not None and not folder.is_dir():
            raise FsckitError(f"--captions-dir {folder}: no such folder")
        self.data = data
        self.settings = settings
        self.styles = {style.name: style for style in parse_recipe(settings.recipe)}
        self.provenances: dict[str | None, Provenance] = {
            name: self._provenance(self.styles[name] if name else None)
            for name in (None, *self.styles)
        }

    def _provenance(self, style: Style | None) -> Provenance:
        """How the table of a style, or the samples table (None), is made here."""
        common = Provenance(
            table="samples" if style is None else "negatives",
            caption_source=str(self.settings.captions),
            tokenizer=tokenizer_of(self.settings.tokenizer),
        )
        if style is None:
            return common
        model = vars(installed_model()) if style.uses_parse else {}
        return replace(
            common,
            style=style.name,
            style_version=style.version,
            options=style.options | {name: version(name) for name in _libraries(style)},
            seed=self.settings.seed,
            variants=self.settings.variants,
            lexicon_digest=load_lexicon().digest if style.uses_lexicon else None,
            **model,
        )

    def tables(self, shard: str) -> dict[str | None, DataPath]:
        """The files of a shard: the samples (None) and each style's negatives."""
        return {name: table_path(self.data, name, shard) for name in (None, *self.styles)}

    def missing(self, tar: DataPath, index: TarIndex) -> list[str | None]:
        """The tables of a shard that are not there, or were made otherwise, or from the tar as it
        was before."""
        ours = (size_of(tar), index.digest, index.captions_digest)
        missing = []
        for name, path in self.tables(tar.stem).items():
            with access(path, "read"):
                there = path.exists()
            if there:
                footer = read_metadata(path)
                shard = footer.shard
                if footer.provenance == self.provenances[name] and ours == (
                    shard.tar_size,
                    shard.tar_digest,
                    shard.captions_digest,
                ):
                    continue
            missing.append(name)
        return missing

    def footers(self, tars: list[DataPath]) -> dict[DataPath, Metadata]:
        """What the tables of these tars that are there say of themselves."""
        stems = {tar.stem for tar in tars}
        folders = [path.parent for path in self.tables("").values()]
        there = (path for folder in folders for path in entries(folder, ".parquet"))
        return read_footers([path for path in there if path.stem in stems])

    def unfinished(self, tars: list[DataPath], footers: dict[DataPath, Metadata]) -> list[DataPath]:
        """The tars that lack a table, or have one made otherwise or of a tar of another size; no
        tar is opened."""
        sizes = parallel_map(size_of, tars)
        return [
            tar
            for tar, size in zip(tars, sizes, strict=True)
            if any(
                path not in footers
                or footers[path].shard.tar_size != size
                or footers[path].provenance != self.provenances[name]
                for name, path in self.tables(tar.stem).items()
            )
        ]

    def refuse_others(self, footers: dict[DataPath, Metadata], overwrite: bool) -> None:
        """Raises FsckitError where a table is there that these would not go with.

        With `overwrite` tables of the styles to make may be there; of other styles they may
        only where their captions and tokens are the same.
        """
        refuse_orphans(self.data)
        samples = self.provenances[None]
        for style in set(styles_present(self.data)) - self.styles.keys():
            path = entries(self.data / "negatives" / style, ".parquet")[0]
            theirs = read_metadata(path).provenance
            if (theirs.caption_source, theirs.tokenizer) != (
                samples.caption_source,
                samples.tokenizer,
            ):
                raise FsckitError(
                    f"{path.parent}: made from captions {theirs.caption_source!r} with tokenizer "
                    f"{theirs.tokenizer!r}, not {samples.caption_source!r} and "
                    f"{samples.tokenizer!r}; add {style} to --recipe, or delete that folder"
                )
        if overwrite:
            return
        ours = {path.parent: self.provenances[name] for name, path in self.tables("").items()}
        for path, footer in footers.items():
            for key, value in vars(ours[path.parent]).items():
                found = getattr(footer.provenance, key)
                if found != value:
                    raise FsckitError(
                        f"{path}: was made with {key} {found!r}, not {value!r}; say "
                        f"--overwrite to make it again"
                    )


def _libraries(style: Style) -> tuple[str, ...]:
    """Whose versions change what a style makes; thinc's decides by what code the parse is made."""
    return (*style.libraries, "thinc") if style.uses_parse else style.libraries
