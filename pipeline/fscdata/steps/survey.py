"""Which tables a data set has, how they were made, and whether they could be made so again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from fscdata.base.errors import FsckitError
from fscdata.base.paths import DataPath, entries
from fscdata.contract import CaptionSource, Provenance, read_metadata, shard_paths, styles_present
from fscdata.negatives.style import create_style
from fscdata.steps.checks import belongs, is_well_formed
from fscdata.steps.plan import Plan, Settings, table_path


class Mend(StrEnum):
    """Who can mend what was found."""

    REPAIR = "yes"
    BY_HAND = "no"
    HARMLESS = "harmless"


@dataclass(frozen=True)
class Finding:
    """A fault of one file or folder, or a note where `mend` is HARMLESS."""

    path: DataPath
    problem: str
    mend: Mend


@dataclass
class Survey:
    """What the tables' footers say; a table is named by its style, the samples table by None.

    `shards` are those that have the table, `references` how most of its shards were made,
    `refusals` the tables that cannot be made again alike, `unlike` the styles of other captions
    or tokens than the samples have.
    """

    tars: list[DataPath]
    shards: dict[str | None, set[str]]
    references: dict[str | None, Provenance] = field(default_factory=dict)
    refusals: set[str | None] = field(default_factory=set)
    unlike: set[str | None] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)


def settings_of(styles: list[str], made: Provenance, captions: Path | None) -> Settings:
    """The settings that make tables of such provenance; `captions` is the folder of a `folder:`."""
    if made.caption_source.startswith("folder:"):
        source = CaptionSource(folder=captions)
    else:
        source = CaptionSource.inside_tar(made.caption_source) or CaptionSource()
    return Settings(
        recipe=",".join(styles),
        variants=made.variants or 1,
        seed=made.seed or 0,
        tokenizer=Settings.tokenizer if made.tokenizer else "none",
        captions=source,
    )


def take_survey(data: DataPath, captions: Path | None) -> Survey:
    """Read every footer.

    Raises:
        FsckitError: no such folder, no tar, no table, or the captions lie in a folder that
            `captions` is not.
    """
    tars = shard_paths(data)
    shards = {
        name: {path.stem for path in entries(table_path(data, name, "").parent, ".parquet")}
        for name in (None, *styles_present(data))
    }
    if not any(shards.values()):
        raise FsckitError(
            f"{data}: no table to verify; make some with 'fscdata make-negatives {data} --recipe "
            f"RECIPE'"
        )
    survey = Survey(tars, shards)
    _find_orphans(data, survey)
    for name in shards:
        _find_reference(data, survey, name)
    _agree_on_captions(data, survey, captions)
    for name in shards:
        if name is not None and name in survey.references:
            _compare_with_here(data, survey, name, captions)
    if survey.refusals >= survey.shards.keys() - {None}:
        survey.refusals.add(None)  # samples are made along with some style's negatives
    return survey


def _find_orphans(data: DataPath, survey: Survey) -> None:
    stems = {tar.stem for tar in survey.tars}
    for name, shards in survey.shards.items():
        if lost := sorted(shards - stems):
            problem = f"belongs to no tar ({len(lost):,} in its folder); bring the tar back, or "
            path = table_path(data, name, lost[0])
            survey.findings.append(Finding(path, problem + "delete the table", Mend.BY_HAND))
            shards -= set(lost)


def _find_reference(data: DataPath, survey: Survey, name: str | None) -> None:
    """How most shards of a table were made, by the footers that can be read."""
    votes: Counter[str] = Counter()
    by_text: dict[str, Provenance] = {}
    for shard in sorted(survey.shards[name]):
        try:
            metadata = read_metadata(table_path(data, name, shard))
        except FsckitError:
            continue  # a fault of that table, found where it is checked
        if is_well_formed(metadata) and belongs(metadata, name):
            text = repr(metadata.provenance)
            votes[text] += 1
            by_text[text] = metadata.provenance
    if not votes:
        return
    (first, most), *others = votes.most_common(2)
    survey.references[name] = by_text[first]
    if others and others[0][1] == most:
        _refuse(data, survey, name, "its shards were made in two ways, and no way by most of them")


def _agree_on_captions(data: DataPath, survey: Survey, captions: Path | None) -> None:
    """All tables have their captions and tokens from the same source: that of the samples."""
    references = survey.references
    if not references:
        raise FsckitError(
            f"{data}: none of its tables can be read; delete the folders samples and negatives, "
            f"and make them again with 'fscdata make-negatives {data}'"
        )
    made = references.get(None) or next(iter(references.values()))
    references.setdefault(None, Provenance("samples", made.caption_source, made.tokenizer))
    source = made.caption_source
    if source.startswith("folder:") and (
        captions is None or str(CaptionSource(folder=captions)) != source
    ):
        raise FsckitError(
            f"{data}: its captions are from the folder '{source.partition(':')[2]}'; give that "
            f"folder with --captions-dir"
        )
    for name in survey.shards:
        if name not in references:
            _refuse(data, survey, name, "no table of it says how it was made")
        elif (references[name].caption_source, references[name].tokenizer) != (
            source,
            made.tokenizer,
        ):
            _refuse(data, survey, name, "its captions or tokens are not those of the samples table")
            survey.unlike.add(name)
    if survey.unlike:
        survey.refusals |= survey.shards.keys()  # nothing is made beside tables of other captions


def _refuse(data: DataPath, survey: Survey, name: str | None, why: str) -> None:
    """Note a fault of a whole table, for which it must be made again."""
    problem = f"{why}; {_again(data, survey, name)}"
    folder = table_path(data, name, "*").parent
    survey.findings.append(Finding(folder, problem, Mend.BY_HAND))
    survey.refusals.add(name)


def _again(data: DataPath, survey: Survey, name: str | None) -> str:
    styles = [style for style in survey.shards if style] if name is None else [name]
    recipe = ",".join(filter(None, styles)) or "RECIPE"
    command = f"fscdata make-negatives {data} --recipe {recipe}"
    made = survey.references.get(name)
    if made is not None and name is not None:
        command += f" --variants {made.variants} --seed {made.seed}"
    return f"make it again with '{command} --overwrite'"


def _compare_with_here(data: DataPath, survey: Survey, name: str, captions: Path | None) -> None:
    """Note what is another version here than where a style's tables were made."""
    made = survey.references[name]
    folder = table_path(data, name, "*").parent
    try:
        style = create_style(name)
        here = Plan(data, settings_of([name], made, captions)).provenances[style.name]
    except FsckitError as error:
        note = f"its tables cannot be made again with this fsckit: {error}"
        survey.findings.append(Finding(folder, note, Mend.HARMLESS))
        survey.refusals.add(name)
        return
    different = [
        f"{key} {getattr(made, key)!r}, here {value!r}"
        for key, value in vars(here).items()
        if getattr(made, key) != value
    ]
    if different:
        note = (
            f"made with {'; '.join(different)}: --repair would make broken shards otherwise; to "
            f"mend one, {_again(data, survey, name)}"
        )
        survey.findings.append(Finding(folder, note, Mend.HARMLESS))
        survey.refusals.add(name)
