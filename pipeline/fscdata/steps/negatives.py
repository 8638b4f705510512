"""make-negatives: the samples and negatives tables of every shard.

A table's metadata lies in its footer, which is written last, and the file gets its name when it is
whole; so a table is its own record of being done, and a run makes only what is missing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from fscdata.contract import (
    CaptionSource,
    FsckitError,
    Metadata,
    Provenance,
    ShardRecord,
    TarIndex,
    caption_hash,
    check_unique,
    index_tar,
    negatives_path,
    read_metadata,
    read_table,
    refuse_orphans,
    samples_path,
    shard_paths,
    styles_present,
)
from fscdata.lexicon import load_lexicon
from fscdata.negatives.draw import Draw
from fscdata.negatives.parse import Parse
from fscdata.negatives.parsing import MAX_CHARACTERS, load_parser
from fscdata.negatives.style import Caption, Negative, Style, seed_key
from fscdata.recipes import parse_recipe
from fscdata.steps.tables import Row, negatives_table, samples_table
from fscdata.storage import locked, remove_temporary, write_parquet
from fscdata.tokenizer import ClipTokenizer, tokenizer_of

MAX_VARIANTS = 127  # int8
_TICK = 256  # captions between two words to the progress bar


@dataclass(frozen=True)
class Settings:
    """What is made: the styles, how many variants of each, from which seed and captions."""

    recipe: str
    variants: int = 1
    seed: int = 0
    tokenizer: str = "ViT-B-32"
    captions: CaptionSource = CaptionSource()  # noqa: RUF009  (frozen)


@dataclass
class Report:
    """What a run did; `failed` names the shards that could not be made, and why."""

    shards: int = 0
    skipped: int = 0
    captions: int = 0
    negatives: Counter[str] = field(default_factory=Counter)
    without: Counter[tuple[str, str]] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    written: int = 0
    seconds: float = 0.0
    failed: dict[str, str] = field(default_factory=dict)


def make_negatives(
    data: Path,
    settings: Settings,
    overwrite: bool = False,
    progress: Callable[[int, int, int], None] = lambda done, total, captions: None,
) -> Report:
    """Make the tables that a data set lacks; `progress` hears of shards done, shards in all, and
    captions done.

    A tar that cannot be read is reported and the others are made. Tables made from a tar that has
    changed since are made again.

    Raises:
        FsckitError: no such recipe, no shards, tables of another provenance without `overwrite`,
            tables that belong to no tar, a key in two tars, or another run at work on the folder.
    """
    if not 1 <= settings.variants <= MAX_VARIANTS:
        raise FsckitError(f"--variants {settings.variants}: takes 1 to {MAX_VARIANTS}")
    folder = settings.captions.folder
    if folder is not None and not folder.is_dir():
        raise FsckitError(f"--captions-dir {folder}: no such folder")
    styles = parse_recipe(settings.recipe)
    tokenizer = ClipTokenizer() if tokenizer_of(settings.tokenizer) else None
    tars = shard_paths(data)
    report = Report()
    start = time.perf_counter()
    with locked(data):
        remove_temporary(data)
        maker = ShardMaker(data, styles, settings, tokenizer)
        maker.refuse_others(tars, overwrite)
        for done, tar in enumerate(tars):
            tick = partial(progress, done, len(tars))
            tick(report.captions)
            try:
                maker.make(tar, report, overwrite, tick)
            except FsckitError as error:
                report.failed[tar.name] = str(error)
        progress(len(tars), len(tars), report.captions)
        made = [samples_path(data, tar.stem) for tar in tars if tar.name not in report.failed]
        if made:
            check_unique(data, [read_table(path, ["key", "caption_index"]) for path in made])
    report.seconds = time.perf_counter() - start
    return report


class ShardMaker:
    """Makes the tables of one shard at a time; holds what all of them share."""

    def __init__(
        self,
        data: Path,
        styles: list[Style],
        settings: Settings,
        tokenizer: ClipTokenizer | None,
    ) -> None:
        self.data = data
        self.settings = settings
        self.styles = {style.name: style for style in styles}
        self.parser = load_parser() if any(s.uses_parse for s in styles) else None
        self.tokenizer = tokenizer
        self.keys = {name: seed_key(settings.seed, style) for name, style in self.styles.items()}

    def provenance(self, style: Style | None) -> Provenance:
        """How the table of a style, or the samples table, is made here."""
        common = Provenance(
            table="samples" if style is None else "negatives",
            caption_source=str(self.settings.captions),
            tokenizer=tokenizer_of(self.settings.tokenizer),
        )
        if style is None:
            return common
        model = vars(self.parser.info) if self.parser and style.uses_parse else {}
        return replace(
            common,
            style=style.name,
            style_version=style.version,
            options=style.options | {name: version(name) for name in style.libraries},
            seed=self.settings.seed,
            variants=self.settings.variants,
            lexicon_digest=load_lexicon().digest if style.uses_lexicon else None,
            **model,
        )

    def tables(self, shard: str) -> dict[str | None, Path]:
        """The files of a shard: the samples (None) and each style's negatives."""
        return {None: samples_path(self.data, shard)} | {
            name: negatives_path(self.data, name, shard) for name in self.styles
        }

    def refuse_others(self, tars: list[Path], overwrite: bool) -> None:
        """Raises FsckitError where a table is there that these would not go with.

        With `overwrite` tables of the styles to make may be there; of other styles they may
        only where their captions and tokens are the same.
        """
        refuse_orphans(self.data)
        ours = self.provenance(None)
        for style in set(styles_present(self.data)) - self.styles.keys():
            path = min((self.data / "negatives" / style).glob("*.parquet"))
            theirs = read_metadata(path).provenance
            if (theirs.caption_source, theirs.tokenizer) != (ours.caption_source, ours.tokenizer):
                raise FsckitError(
                    f"{path.parent}: made from captions {theirs.caption_source!r} with tokenizer "
                    f"{theirs.tokenizer!r}, not {ours.caption_source!r} and {ours.tokenizer!r}; "
                    f"add {style} to --recipe, or delete that folder"
                )
        for tar in tars if not overwrite else []:
            for name, path in self.tables(tar.stem).items():
                if not path.exists():
                    continue
                theirs = read_metadata(path).provenance
                ours = self.provenance(self.styles[name] if name else None)
                for key, value in vars(ours).items():
                    if getattr(theirs, key) != value:
                        raise FsckitError(
                            f"{path}: was made with {key} {getattr(theirs, key)!r}, not {value!r}; "
                            f"say --overwrite to make it again"
                        )

    def make(self, tar: Path, report: Report, overwrite: bool, tick: Callable[[int], None]) -> None:
        """Make the tables of one shard that are missing or older than its tar."""
        index = index_tar(tar, self.settings.captions)
        tables = self.tables(tar.stem)
        missing = [
            name for name, path in tables.items() if overwrite or not self._done(path, tar, index)
        ]
        report.left_out.update(index.without)
        if not missing:
            report.skipped += 1
            return
        captions = sum(len(sample.captions) for sample in index.samples)
        record = ShardRecord(
            tar.name, tar.stat().st_size, index.digest, index.captions_digest, 0, captions
        )
        styles = [self.styles[name] for name in missing if name is not None]
        rows, without = self._negatives(index, styles, lambda done: tick(report.captions + done))
        for style in styles:
            table = negatives_table(rows[style.name], self.tokenizer)
            counts = dict(sorted(without[style.name].items()))
            shard = replace(record, rows=table.num_rows, without=counts)
            metadata = Metadata(self.provenance(style), shard)
            report.written += write_parquet(tables[style.name], table, metadata)
            report.negatives[style.name] += table.num_rows
            for reason, count in counts.items():
                report.without[style.name, reason] += count
        if None in missing:
            table = samples_table(index, self.tokenizer)
            shard = replace(record, rows=table.num_rows, without=index.without)
            metadata = Metadata(self.provenance(None), shard)
            report.written += write_parquet(tables[None], table, metadata)
        report.shards += 1
        report.captions += captions

    def _done(self, path: Path, tar: Path, index: TarIndex) -> bool:
        if not path.exists():
            return False
        shard = read_metadata(path).shard
        ours = (tar.stat().st_size, index.digest, index.captions_digest)
        return (shard.tar_size, shard.tar_digest, shard.captions_digest) == ours

    def _negatives(
        self, index: TarIndex, styles: list[Style], tick: Callable[[int], None]
    ) -> tuple[dict[str, list[Row]], dict[str, Counter[str]]]:
        rows: dict[str, list[Row]] = {style.name: [] for style in styles}
        without: dict[str, Counter[str]] = {style.name: Counter() for style in styles}
        items = [
            (sample, caption_index, text)
            for sample in index.samples
            for caption_index, text in sample.captions
        ]
        parses = self._parses([text for *_, text in items])
        for done, ((sample, caption_index, text), parse) in enumerate(
            zip(items, parses, strict=True)
        ):
            if done % _TICK == 0:
                tick(done)
            published = sample.published.get(caption_index, [])
            caption = Caption(text, parse, published)
            hash_ = caption_hash(text)
            for style in styles:
                found = self._one(style, caption)
                if isinstance(found, str):
                    without[style.name][found] += 1
                    continue
                rows[style.name] += [
                    (sample.key, caption_index, hash_, variant, negative)
                    for variant, negative in enumerate(found)
                ]
        return rows, without

    def _one(self, style: Style, caption: Caption) -> list[Negative] | str:
        if style.uses_parse and caption.parse is None:
            return f"longer than {MAX_CHARACTERS} characters"
        key = self.keys[style.name].copy()
        key.update(caption.text.encode())
        return style.negatives(caption, Draw(key), self.settings.variants)

    def _parses(self, texts: list[str]) -> Iterator[Parse | None]:
        """One parse a text, None where the text is too long or no style needs parses."""
        if self.parser is None:
            yield from (None for _ in texts)
            return
        parses = self.parser.parse(text for text in texts if len(text) <= MAX_CHARACTERS)
        for text in texts:
            yield next(parses) if len(text) <= MAX_CHARACTERS else None
