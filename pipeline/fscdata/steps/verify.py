"""verify: check every table against its tar and the contract; repair: remake the broken ones.

Memory holds one shard at a time, plus a 64-bit hash of every key.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fscdata.base.errors import FsckitError, first_line
from fscdata.base.locks import folder_lock
from fscdata.base.paths import DataPath
from fscdata.base.progress import SILENT, Reporter
from fscdata.contract import (
    SAMPLES,
    TarIndex,
    index_tar,
    read_metadata,
    read_table,
    refuse_orphans,
    remove_temporary,
    shard_paths,
    table_path,
    temporary_files,
)
from fscdata.executors import Executor
from fscdata.steps.checks import (
    is_well_formed,
    metadata_problem,
    negatives_problems,
    samples_problems,
)
from fscdata.steps.expected import Settings
from fscdata.steps.negatives import make_negatives
from fscdata.steps.survey import Finding, Repair, Survey, settings_of, take_survey
from fscdata.steps.to_arrow import samples_table
from fscdata.tokenizer import ClipTokenizer


@dataclass
class VerifyReport:
    """The findings; `repaired` lists the tables that `repair` remade."""

    survey: Survey
    tables: int = 0
    findings: list[Finding] = field(default_factory=list)
    repaired: list[DataPath] = field(default_factory=list)

    @property
    def faults(self) -> list[Finding]:
        """The findings that are not harmless."""
        return [f for f in self.findings if f.repair is not Repair.HARMLESS]

    @property
    def repairable(self) -> list[Finding]:
        """The faults that `repair` can fix."""
        return [f for f in self.findings if f.repair is Repair.AUTOMATIC]


def verify(
    data: DataPath,
    captions_dir: Path | None = None,
    shards: set[str] | None = None,
    reporter: Reporter = SILENT,
) -> VerifyReport:
    """Check the tables of a data set.

    Args:
        data: the data set's folder.
        captions_dir: the folder of the captions, if they are not in the tars.
        shards: check only these; by default all.
        reporter: receives the progress.

    Raises:
        FsckitError: see `take_survey`.
    """
    survey = take_survey(data, captions_dir)
    report = VerifyReport(survey, sum(map(len, survey.shards.values())), list(survey.findings))
    report.findings += [
        Finding(path, "left by an interrupted run; repair removes it", Repair.HARMLESS)
        for path in temporary_files(data)
    ]
    tars = [tar for tar in survey.tars if shards is None or tar.stem in shards]
    verifier = _Verifier(data, survey, captions_dir)
    progress = reporter.counter("verifying", "shards")
    for done, tar in enumerate(tars):
        progress(done, len(tars))
        report.findings += verifier.shard(tar)
    report.findings += verifier.duplicate_keys()
    progress(len(tars), len(tars))
    return report


def repair(
    data: DataPath,
    report: VerifyReport,
    captions_dir: Path | None = None,
    executor: Executor | None = None,
    reporter: Reporter = SILENT,
) -> VerifyReport:
    """Remake the tables that `verify` found repairable, and verify those shards again.

    Raises:
        FsckitError: a table has no tar, or is unreadable and cannot be remade, or another process
            is using the folder. Nothing is removed in that case.
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
    for settings in _settings_to_run(data, report.survey, broken, captions_dir):
        failures += _make(data, settings, executor, reporter)
    repaired = verify(data, captions_dir, {path.stem for path in broken}, reporter)
    remaining = [f for f in report.findings if f.repair is Repair.MANUAL]
    repaired.findings = list(dict.fromkeys([*remaining, *repaired.findings, *failures]))
    faulty = {finding.path for finding in repaired.faults}
    repaired.repaired = [path for path in broken if path not in faulty]
    return repaired


def _refuse_obstacles(data: DataPath, report: VerifyReport) -> None:
    """Raise FsckitError for anything that would stop make-negatives, before removing anything."""
    refuse_orphans(data)
    for finding in report.findings:
        path = finding.path
        if finding.repair is Repair.MANUAL and path.suffix == ".parquet" and path.exists():
            read_metadata(path)


def _settings_to_run(
    data: DataPath, survey: Survey, broken: list[DataPath], captions_dir: Path | None
) -> Iterator[Settings]:
    """The settings that remake the broken tables: one run per combination of seed and variants."""
    makeable = [n for n in survey.references if n != SAMPLES and n not in survey.refusals]
    folders = {path.parent for path in broken}
    styles = [name for name in makeable if table_path(data, name, "*").parent in folders]
    groups: dict[tuple[int | None, int | None], list[str]] = {}
    # If only samples are broken, any style will do: its run makes the samples too.
    for name in styles or (makeable[:1] if broken else []):
        made = survey.references[name]
        groups.setdefault((made.seed, made.variants), []).append(name)
    for names in groups.values():
        yield settings_of(names, survey.references[names[0]], captions_dir)


def _make(
    data: DataPath, settings: Settings, executor: Executor | None, reporter: Reporter
) -> Iterator[Finding]:
    """Make the missing tables, and report failures as findings."""
    try:
        made = make_negatives(data, settings, executor=executor, reporter=reporter)
    except FsckitError as error:
        yield Finding(data, _without_path(str(error), data), Repair.MANUAL)
        return
    for tar in shard_paths(data):
        if reason := made.failed.get(tar.name):
            yield Finding(tar, _without_path(reason, tar), Repair.MANUAL)


class _Verifier:
    """Checks shards one by one and remembers their keys."""

    def __init__(self, data: DataPath, survey: Survey, captions_dir: Path | None) -> None:
        self.data = data
        self.survey = survey
        made = survey.references[SAMPLES]
        self.source = settings_of([], made, captions_dir).captions
        self.tokenizer = ClipTokenizer() if made.tokenizer else None
        self.keys: dict[DataPath, NDArray[np.int64]] = {}  # Python's hashes by tar

    def shard(self, tar: DataPath) -> Iterator[Finding]:
        """The faults in a tar and its tables."""
        index = samples = None
        try:
            index = index_tar(tar, self.source)
        except FsckitError as error:
            yield Finding(tar, _without_path(str(error), tar), Repair.MANUAL)
        else:
            self.keys[tar] = np.array([hash(sample.key) for sample in index.samples], np.int64)
            samples = samples_table(index, self.tokenizer)
        for name, shards in self.survey.shards.items():
            path = table_path(self.data, name, tar.stem)
            manual = index is None or name in self.survey.refusals
            fix = Repair.MANUAL if manual else Repair.AUTOMATIC
            if tar.stem not in shards:
                yield Finding(path, "missing", fix)
            elif name not in self.survey.unlike:
                for problem in self._table(name, path, tar, index, samples):
                    yield Finding(path, problem, fix)

    def _table(
        self,
        name: str,
        path: DataPath,
        tar: DataPath,
        index: TarIndex | None,
        samples: pa.Table | None,
    ) -> list[str]:
        """The problems with a table; `index` and `samples` come from its tar."""
        try:
            metadata = read_metadata(path)
            if not is_well_formed(metadata):
                return ["its metadata is unreadable"]
            reference = self.survey.references.get(name, metadata.provenance)
            problem = metadata_problem(metadata, name, tar, index, reference)
            if problem is not None:
                return [problem]
            table = read_table(path)
            table.validate(full=True)  # UTF-8, list offsets
        except FsckitError as error:
            # The findings have their own repair column, so drop the sentence's advice after the
            # last semicolon.
            return [_without_path(str(error), path).rpartition("; ")[0] or str(error)]
        except pa.ArrowException as error:
            return [f"damaged ({first_line(error)})"]
        if index is None or samples is None:
            return []
        if name == SAMPLES:
            return list(samples_problems(table, metadata.shard, index, samples))
        return list(negatives_problems(table, metadata, samples, self.tokenizer))

    def duplicate_keys(self) -> Iterator[Finding]:
        """The tars that repeat keys of an earlier tar."""
        if not self.keys:
            return
        hashes, counts = np.unique(np.concatenate([*self.keys.values()]), return_counts=True)
        repeated = set(hashes[counts > 1].tolist())
        first: dict[str, DataPath] = {}
        for tar, own in self.keys.items() if repeated else ():
            if repeated.isdisjoint(own.tolist()):
                continue
            # Different keys may share a hash, so compare the keys themselves.
            keys = [sample.key for sample in index_tar(tar, self.source).samples]
            shared = [k for k in keys if hash(k) in repeated and first.setdefault(k, tar) != tar]
            if shared:
                problem = (
                    f"{len(shared):,} of its keys occur in another tar, such as '{shared[0]}' in "
                    f"{first[shared[0]].name}; keys must be unique, so repack the tars"
                )
                yield Finding(tar, problem, Repair.MANUAL)


def _without_path(sentence: str, path: DataPath) -> str:
    return sentence.removeprefix(f"{path}: ")
