"""verify: every table against its tar and against the contract; repair: what is broken made again.

One shard is in memory at a time, and of all keys a 64-bit hash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fscdata.base.errors import FsckitError, first_line
from fscdata.base.locks import folder_lock
from fscdata.base.paths import DataPath
from fscdata.contract import (
    TarIndex,
    index_tar,
    read_metadata,
    read_table,
    refuse_orphans,
    remove_temporary,
    shard_paths,
    temporary_files,
)
from fscdata.executors import Executor
from fscdata.steps.checks import (
    is_well_formed,
    metadata_problem,
    negatives_problems,
    samples_problems,
)
from fscdata.steps.negatives import make_negatives
from fscdata.steps.plan import Settings, table_path
from fscdata.steps.survey import Finding, Mend, Survey, settings_of, take_survey
from fscdata.steps.tables import samples_table
from fscdata.tokenizer import ClipTokenizer

Progress = Callable[[str, int, int], None]  # what is done to shards, to how many, of how many


@dataclass
class Report:
    """What was found; `mended` are the tables that `repair` made again."""

    survey: Survey
    tables: int = 0
    findings: list[Finding] = field(default_factory=list)
    mended: list[DataPath] = field(default_factory=list)

    @property
    def faults(self) -> list[Finding]:
        """The findings that mean that something is wrong."""
        return [finding for finding in self.findings if finding.mend is not Mend.HARMLESS]

    @property
    def repairable(self) -> list[Finding]:
        """The faults that `repair` mends."""
        return [finding for finding in self.findings if finding.mend is Mend.REPAIR]


def verify(
    data: DataPath,
    captions: Path | None = None,
    shards: set[str] | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Report:
    """Check the tables of a data set (of the named `shards` alone, where given).

    `captions` is the folder of the captions, where they do not lie in the tars.

    Raises:
        FsckitError: no such folder, no tar, no table, or not the folder of the captions.
    """
    survey = take_survey(data, captions)
    report = Report(survey, sum(map(len, survey.shards.values())), list(survey.findings))
    report.findings += [
        Finding(path, "left by a run that did not end; --repair removes it", Mend.HARMLESS)
        for path in temporary_files(data)
    ]
    tars = [tar for tar in survey.tars if shards is None or tar.stem in shards]
    verifier = _Verifier(data, survey, captions)
    for done, tar in enumerate(tars):
        progress("verifying", done, len(tars))
        report.findings += verifier.shard(tar)
    report.findings += verifier.duplicate_keys()
    progress("verifying", len(tars), len(tars))
    return report


def repair(
    data: DataPath,
    report: Report,
    captions: Path | None = None,
    executor: Executor | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Report:
    """Make again the tables that `verify` found broken and repairable, and verify those shards.

    Raises:
        FsckitError: a table stands in the way that belongs to no tar or cannot be read and not be
            made again, or another run is at work. Nothing has been removed then.
    """
    broken = list(dict.fromkeys(finding.path for finding in report.repairable))
    if not broken and not temporary_files(data):
        return report
    if broken:
        _refuse_obstacles(data, report)
    with folder_lock(data):
        remove_temporary(data)
        for path in broken:
            path.unlink(missing_ok=True)
    failures: list[Finding] = []
    for settings in _to_make(data, report.survey, broken, captions):
        failures += _make(data, settings, executor, progress)
    again = verify(data, captions, {path.stem for path in broken}, progress)
    remaining = [f for f in report.findings if f.mend is Mend.BY_HAND]
    again.findings = list(dict.fromkeys([*remaining, *again.findings, *failures]))
    faulty = {finding.path for finding in again.faults}
    again.mended = [path for path in broken if path not in faulty]
    return again


def _refuse_obstacles(data: DataPath, report: Report) -> None:
    """Raises FsckitError for what would stop the making, before anything is removed."""
    refuse_orphans(data)
    for finding in report.findings:
        path = finding.path
        if finding.mend is Mend.BY_HAND and path.suffix == ".parquet" and path.exists():
            read_metadata(path)


def _to_make(
    data: DataPath, survey: Survey, broken: list[DataPath], captions: Path | None
) -> Iterator[Settings]:
    """What makes the broken tables again: one run for all styles that share seed and variants."""
    makeable = [name for name in survey.references if name and name not in survey.refusals]
    folders = {path.parent for path in broken}
    styles = [name for name in makeable if table_path(data, name, "*").parent in folders]
    groups: dict[tuple[int | None, int | None], list[str]] = {}
    for name in styles or (makeable[:1] if broken else []):
        made = survey.references[name]
        groups.setdefault((made.seed, made.variants), []).append(name)
    for names in groups.values():
        yield settings_of(names, survey.references[names[0]], captions)


def _make(
    data: DataPath, settings: Settings, executor: Executor | None, progress: Progress
) -> Iterator[Finding]:
    """Make the tables that are missing; what fails is a finding."""
    try:
        made = make_negatives(
            data,
            settings,
            executor=executor,
            progress=lambda run: progress("making", run.ended, run.shards),
        )
    except FsckitError as error:
        yield Finding(data, _without_path(str(error), data), Mend.BY_HAND)
        return
    for tar in shard_paths(data):
        if reason := made.failed.get(tar.name):
            yield Finding(tar, _without_path(reason, tar), Mend.BY_HAND)


class _Verifier:
    """Checks one shard after the other and remembers their keys."""

    def __init__(self, data: DataPath, survey: Survey, captions: Path | None) -> None:
        self.data = data
        self.survey = survey
        made = survey.references[None]
        self.source = settings_of([], made, captions).captions
        self.tokenizer = ClipTokenizer() if made.tokenizer else None
        self.keys: dict[DataPath, NDArray[np.int64]] = {}  # by tar; Python's hash of each

    def shard(self, tar: DataPath) -> Iterator[Finding]:
        """The faults of a tar and of its tables."""
        index = samples = None
        try:
            index = index_tar(tar, self.source)
        except FsckitError as error:
            yield Finding(tar, _without_path(str(error), tar), Mend.BY_HAND)
        else:
            self.keys[tar] = np.array([hash(sample.key) for sample in index.samples], np.int64)
            samples = samples_table(index, self.tokenizer)
        for name, shards in self.survey.shards.items():
            path = table_path(self.data, name, tar.stem)
            by_hand = index is None or name in self.survey.refusals
            mend = Mend.BY_HAND if by_hand else Mend.REPAIR
            if tar.stem not in shards:
                yield Finding(path, "missing", mend)
            elif name not in self.survey.unlike:
                for problem in self._table(name, path, tar, index, samples):
                    yield Finding(path, problem, mend)

    def _table(
        self,
        name: str | None,
        path: DataPath,
        tar: DataPath,
        index: TarIndex | None,
        samples: pa.Table | None,
    ) -> list[str]:
        """What is wrong with a table; `index` and `samples` are what its tar gives."""
        try:
            metadata = read_metadata(path)
            if not is_well_formed(metadata):
                return ["its metadata cannot be read"]
            reference = self.survey.references.get(name, metadata.provenance)
            problem = metadata_problem(metadata, name, tar, index, reference)
            if problem is not None:
                return [problem]
            table = read_table(path)
            table.validate(full=True)  # text that is not UTF-8, lists without end
        except FsckitError as error:
            # The contract's own advice is not needed beside the column that says who mends it.
            return [_without_path(str(error), path).rpartition("; ")[0] or str(error)]
        except pa.ArrowException as error:
            return [f"damaged ({first_line(error)})"]
        if index is None or samples is None:
            return []
        if name is None:
            return list(samples_problems(table, metadata.shard, index, samples))
        return list(negatives_problems(table, metadata, samples, self.tokenizer))

    def duplicate_keys(self) -> Iterator[Finding]:
        """The tars that have keys of an earlier one."""
        if not self.keys:
            return
        hashes, counts = np.unique(np.concatenate([*self.keys.values()]), return_counts=True)
        twice = set(hashes[counts > 1].tolist())
        first: dict[str, DataPath] = {}
        for tar, own in self.keys.items() if twice else ():
            if twice.isdisjoint(own.tolist()):
                continue
            # The hashes are only near to certain, the tar's keys are.
            keys = [sample.key for sample in index_tar(tar, self.source).samples]
            again = [k for k in keys if hash(k) in twice and first.setdefault(k, tar) != tar]
            if again:
                problem = (
                    f"{len(again):,} of its keys come in another tar, '{again[0]}' in "
                    f"{first[again[0]].name}; keys must be unique, pack again"
                )
                yield Finding(tar, problem, Mend.BY_HAND)


def _without_path(sentence: str, path: DataPath) -> str:
    return sentence.removeprefix(f"{path}: ")
