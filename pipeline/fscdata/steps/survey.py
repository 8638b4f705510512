"""The state of a data set's tables: which exist, how they were made, which can be remade here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from fscdata.base.errors import FsckitError
from fscdata.base.paths import DataPath, entries
from fscdata.contract import (
    SAMPLES,
    CaptionSource,
    Provenance,
    read_metadata,
    shard_paths,
    styles_present,
    table_path,
)
from fscdata.negatives.style import create_style
from fscdata.steps.checks import is_table, is_well_formed
from fscdata.steps.expected import ExpectedTables, Settings


class Repair(StrEnum):
    """Whether a finding can be repaired."""

    AUTOMATIC = "yes"  # by `repair`
    MANUAL = "no"
    HARMLESS = "harmless"  # not a fault


@dataclass(frozen=True)
class Finding:
    """A fault in a file or folder, or a note if `repair` is HARMLESS."""

    path: DataPath
    problem: str
    repair: Repair


@dataclass
class Survey:
    """What the footers say about the tables, by name: `SAMPLES` or a style.

    Attributes:
        tars: the data set's tars.
        shards: the shards that have the table.
        references: the most common provenance among the table's shards.
        refusals: the tables that cannot be remade identically here.
        unlike: the styles whose captions or tokens differ from those of the samples.
        findings: faults and notes.
    """

    tars: list[DataPath]
    shards: dict[str, set[str]]
    references: dict[str, Provenance] = field(default_factory=dict)
    refusals: set[str] = field(default_factory=set)
    unlike: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)


def settings_of(styles: list[str], made: Provenance, captions_dir: Path | None) -> Settings:
    """The settings that produce the provenance `made`.

    `captions_dir` is the captions' folder if they came from one; the provenance has only its name.
    """
    if made.caption_source.startswith("folder:"):
        source = CaptionSource(folder=captions_dir)
    else:
        source = CaptionSource.inside_tar(made.caption_source) or CaptionSource()
    return Settings(
        recipe=",".join(styles),
        variants=made.variants or 1,
        seed=made.seed or 0,
        tokenizer=Settings.tokenizer if made.tokenizer else "none",
        captions=source,
    )


def take_survey(data: DataPath, captions_dir: Path | None) -> Survey:
    """Read every footer.

    Raises:
        FsckitError: the folder is missing, it has no tars or no tables, or `captions_dir` is not
            the folder that the captions came from.
    """
    tars = shard_paths(data)
    shards = {
        name: {path.stem for path in entries(table_path(data, name, "").parent, ".parquet")}
        for name in (SAMPLES, *styles_present(data))
    }
    if not any(shards.values()):
        raise FsckitError(
            f"{data}: no tables to verify; make some with 'fscdata make-negatives {data} --recipe "
            f"RECIPE'"
        )
    survey = Survey(tars, shards)
    _find_orphans(data, survey)
    for name in shards:
        _find_reference(data, survey, name)
    _compare_captions(data, survey, captions_dir)
    for name in shards:
        if name != SAMPLES and name in survey.references:
            _compare_with_installed(data, survey, name, captions_dir)
    if survey.refusals >= survey.shards.keys() - {SAMPLES}:
        # make-negatives makes samples only together with negatives.
        survey.refusals.add(SAMPLES)
    return survey


def _find_orphans(data: DataPath, survey: Survey) -> None:
    """Report tables without a tar, and exclude them."""
    stems = {tar.stem for tar in survey.tars}
    for name, shards in survey.shards.items():
        if orphans := sorted(shards - stems):
            problem = (
                f"has no tar (tables without a tar in its folder: {len(orphans):,}); "
                f"restore the tar or delete the table"
            )
            path = table_path(data, name, orphans[0])
            survey.findings.append(Finding(path, problem, Repair.MANUAL))
            shards -= set(orphans)


def _find_reference(data: DataPath, survey: Survey, name: str) -> None:
    """Find the most common provenance among a table's shards, ignoring unreadable footers."""
    votes: Counter[str] = Counter()
    by_text: dict[str, Provenance] = {}
    for shard in sorted(survey.shards[name]):
        try:
            metadata = read_metadata(table_path(data, name, shard))
        except FsckitError:
            continue  # reported when that shard is checked
        if is_well_formed(metadata) and is_table(metadata, name):
            text = repr(metadata.provenance)
            votes[text] += 1
            by_text[text] = metadata.provenance
    if not votes:
        return
    (first, most), *others = votes.most_common(2)
    survey.references[name] = by_text[first]
    if others and others[0][1] == most:
        _refuse(data, survey, name, "its shards' settings differ, with no majority")


def _compare_captions(data: DataPath, survey: Survey, captions_dir: Path | None) -> None:
    """Compare each style's caption source and tokenizer with the samples'."""
    references = survey.references
    if not references:
        raise FsckitError(
            f"{data}: no table is readable; delete the folders samples and negatives, and run "
            f"'fscdata make-negatives {data} --recipe RECIPE'"
        )
    made = references.get(SAMPLES) or next(iter(references.values()))
    references.setdefault(SAMPLES, Provenance(SAMPLES, made.caption_source, made.tokenizer))
    source = made.caption_source
    if source.startswith("folder:") and (
        captions_dir is None or str(CaptionSource(folder=captions_dir)) != source
    ):
        raise FsckitError(
            f"{data}: its captions came from the folder '{source.partition(':')[2]}'; set "
            f"`captions_dir` to that folder"
        )
    for name in survey.shards:
        if name not in references:
            _refuse(data, survey, name, "all of its shards are unreadable")
        elif (references[name].caption_source, references[name].tokenizer) != (
            source,
            made.tokenizer,
        ):
            _refuse(data, survey, name, "its captions or tokens differ from the samples table's")
            survey.unlike.add(name)
    if survey.unlike:
        # make-negatives refuses to run if existing tables have different captions.
        survey.refusals |= survey.shards.keys()


def _refuse(data: DataPath, survey: Survey, name: str, problem: str) -> None:
    """Report a fault in a whole table, which must be remade by hand."""
    folder = table_path(data, name, "*").parent
    sentence = f"{problem}; {_remake(data, survey, name)}"
    survey.findings.append(Finding(folder, sentence, Repair.MANUAL))
    survey.refusals.add(name)


def _remake(data: DataPath, survey: Survey, name: str) -> str:
    styles = [style for style in survey.shards if style != SAMPLES] if name == SAMPLES else [name]
    command = f"fscdata make-negatives {data} --recipe {','.join(styles) or 'RECIPE'}"
    made = survey.references.get(name)
    if made is not None and name != SAMPLES:
        command += f" --variants {made.variants} --seed {made.seed}"
    return f"remake it with '{command} --overwrite'"


def _compare_with_installed(
    data: DataPath, survey: Survey, name: str, captions_dir: Path | None
) -> None:
    """Report if this installation would make a style's tables differently."""
    made = survey.references[name]
    folder = table_path(data, name, "*").parent
    try:
        style = create_style(name)
        settings = settings_of([name], made, captions_dir)
        installed = ExpectedTables(data, settings).provenances[style.name]
    except FsckitError as error:
        note = f"this fsckit cannot remake its tables: {error}"
        survey.findings.append(Finding(folder, note, Repair.HARMLESS))
        survey.refusals.add(name)
        return
    different = [
        f"{key} {getattr(made, key)!r}, here {value!r}"
        for key, value in vars(installed).items()
        if getattr(made, key) != value
    ]
    if different:
        note = (
            f"made with {'; '.join(different)}: a repair would mix versions; "
            f"{_remake(data, survey, name)}"
        )
        survey.findings.append(Finding(folder, note, Repair.HARMLESS))
        survey.refusals.add(name)
