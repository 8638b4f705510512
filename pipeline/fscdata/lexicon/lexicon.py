"""The compiled WordNet at run time: arrays and queries on them."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fscdata.base.errors import FsckitError
from fscdata.lexicon.morphology import detached
from fscdata.lexicon.relation import Numbers, Relation
from fscdata.lexicon.table import (
    FORMAT_VERSION,
    METADATA_KEY,
    PARTS_OF_SPEECH,
    SCHEMA,
    PartOfSpeech,
    content_digest,
    view,
)

PACKAGED = Path(__file__).with_name("wordnet.arrow")  # the one that ships with the package
_RELATIONS = ("cohyponym", "antonym")


@dataclass(frozen=True, eq=False, slots=True)
class Strings:
    """A sequence of strings, stored as indices into a table that many sequences share."""

    table: tuple[str, ...]
    numbers: array[int]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, i: int) -> str:
        return self.table[self.numbers[i]]

    def __iter__(self) -> Iterator[str]:
        return map(self.table.__getitem__, self.numbers)


@dataclass(frozen=True, eq=False, slots=True)
class Replacements:
    """The replacements of a word: N names of WordNet ("look_at"), sorted by code point.

    `weights` [N] float64 are WordNet's counts, each at least 1, summed over the senses
    reached; `relations` [N] are "antonym" or "cohyponym".
    """

    lemmas: Strings
    weights: npt.NDArray[np.float64]
    relations: Strings


class Lexicon:
    """WordNet's nouns, verbs, adjectives and adverbs; see `load_lexicon`.

    Attributes:
        digest: BLAKE2b-128 of the content, as hex.
        wordnet_version, source: what the lexicon was built from.
        names: every lemma as WordNet spells it, and the index's lower-case forms, sorted.
    """

    def __init__(self, batch: pa.RecordBatch, metadata: dict[str, str]) -> None:
        self.digest = metadata["digest"]
        self.wordnet_version = metadata["wordnet_version"]
        self.source = metadata["source"]
        columns = {name: batch.column(name).flatten() for name in batch.schema.names}
        self.names: tuple[str, ...] = tuple(columns["names"].to_pylist())
        self._senses = Relation.from_arrow(columns["senses"])
        self._lemmas = Relation.from_arrow(columns["lemmas"])
        self._weights = np.maximum(1, view(columns["counts"])).astype(np.float64)
        self._lemma_count = np.int64(len(self._weights))
        self._antonyms = Relation.from_arrow(columns["antonyms"])
        self._derivations = Relation.from_arrow(columns["derivations"])
        self._hypernyms = Relation.from_arrow(columns["hypernyms"])
        self._grandparents = _composed(self._hypernyms, self._hypernyms)
        positions = Relation(self._lemmas.starts, np.arange(len(self._weights), dtype=np.int32))
        self._grandchildren = _composed(self._grandparents.inverse(), positions)
        starts = columns["first_synset"].to_pylist()
        self._range = dict(zip(PARTS_OF_SPEECH, pairwise(starts), strict=True))
        self._exception_lines = columns["exceptions"]

    def base_forms(self, word: str, pos: PartOfSpeech) -> list[str]:
        """The word's lemmas, as in morphy(7WN) and nltk: "geese" → ["goose"].

        The word itself comes first if it is a lemma. An unknown word has no lemmas.
        """
        word = word.lower()
        bases = self._exceptions[pos].get(word)
        if bases is None:
            bases = detached(word, pos)
        return [form for form in dict.fromkeys((word, *bases)) if self.contains(form, pos)]

    def contains(self, lemma: str, pos: PartOfSpeech) -> bool:
        """Whether WordNet has a lemma, in lower case with underscores ("look_at")."""
        return len(self._senses_of(lemma, pos)) > 0

    def sense(self, lemma: str, pos: PartOfSpeech, number: int) -> int:
        """The synset of a lemma's sense, counted from 1."""
        return self._senses_of(lemma, pos)[number - 1]

    def ancestors(self, name: str, pos: PartOfSpeech) -> frozenset[int]:
        """The synset of a name's most frequent sense, with its hypernyms up to the root."""
        senses = self._senses_of(name, pos) or self._senses_of(name.lower(), pos)
        found: set[int] = set()
        new = set(senses[:1])
        while new:
            found |= new
            new = set(_rows(self._hypernyms, new).tolist()) - found
        return frozenset(found)

    def irregular_forms(self, lemma: str, pos: PartOfSpeech) -> tuple[str, ...]:
        """A lemma's forms in WordNet's exception lists: "outride" → "outridden", "outrode"."""
        return self._irregular[pos].get(lemma, ())

    def is_irregular(self, form: str, pos: PartOfSpeech) -> bool:
        """Whether WordNet's exception lists have a form: "geese", "better"."""
        return form in self._exceptions[pos]

    def replacements(self, word: str, pos: PartOfSpeech) -> Replacements:
        """Antonyms and cousins of every sense of a word, without synonyms in any sense.

        Cousins are lemmas of synsets that share a grandparent (hypernym of a hypernym) with a
        sense of the word. For an adjective they are the adjectives derived from the cousins of the
        nouns derived from it; so "red" reaches "blue". This is the support of SugarCrepe's and
        FSC-CLIP's REPLACE. The weights differ: each sense counts once, with its own count. The
        published code counts every path to a sense, and takes a word's count from whichever sense
        comes first, since nltk's lemmas with equal names compare equal.
        """
        word = word.lower()
        synsets = {s for form in self.base_forms(word, pos) for s in self._senses_of(form, pos)}
        starts = self._lemmas.starts
        own = [lemma for s in synsets for lemma in range(starts[s], starts[s + 1])]
        antonyms = _rows(self._antonyms, own)
        cousins = self._derived_cousins(own) if pos == "a" else self._cousins(synsets)
        reached = np.concatenate([antonyms, cousins])
        # Each lemma once, grouped by name: a name's weight is the sum of its lemmas' weights.
        lemmas = _distinct(self._lemmas.targets[reached] * self._lemma_count + reached)
        names, reached = np.divmod(lemmas, self._lemma_count)
        first = np.flatnonzero(_is_first(names))
        weights = np.add.reduceat(self._weights[reached], first)
        names = names[first]
        # This also drops cousins that are other senses of the word: their names are synonyms.
        kept = ~_among(names, [*self._lemmas.targets[own].tolist(), *self._find(word)])
        names, weights = names[kept], weights[kept]
        weights.flags.writeable = False
        is_antonym = _among(names, self._lemmas.targets[antonyms].tolist())
        return Replacements(
            lemmas=Strings(self.names, array("i", names.astype(np.intc).tobytes())),
            weights=weights,
            relations=Strings(_RELATIONS, array("b", is_antonym.tobytes())),
        )

    def _cousins(self, synsets: Iterable[int]) -> Numbers:
        """Lemmas of synsets that share a grandparent with one of these, including their own."""
        return _rows(self._grandchildren, set(_rows(self._grandparents, synsets).tolist()))

    def _derived_cousins(self, adjectives: list[int]) -> Numbers:
        """Adjective lemmas derived from the cousins of the nouns derived from these lemmas."""
        related = self._lemmas.row_of(_rows(self._derivations, adjectives))
        derived: list[Numbers] = [np.empty(0, np.int32)]
        for noun in np.unique(related[self._within("n", related)]):
            cousins = self._cousins([noun])
            lemmas = self._derivations.of(cousins[self._lemmas.row_of(cousins) != noun])
            derived.append(lemmas[self._within("a", self._lemmas.row_of(lemmas))])
        return np.concatenate(derived)

    def _within(self, pos: PartOfSpeech, synsets: Numbers) -> npt.NDArray[np.bool_]:
        first, end = self._range[pos]
        within: npt.NDArray[np.bool_] = (first <= synsets) & (synsets < end)
        return within

    def _find(self, name: str) -> list[int]:
        """The index of a name, as a list of one, or an empty list."""
        i = bisect_left(self.names, name)
        return [i] if i < len(self.names) and self.names[i] == name else []

    def _senses_of(self, lemma: str, pos: PartOfSpeech) -> list[int]:
        first, end = self._range[pos]
        return [s for s in _rows(self._senses, self._find(lemma)).tolist() if first <= s < end]

    @cached_property
    def _exceptions(self) -> dict[PartOfSpeech, dict[str, tuple[str, ...]]]:
        """Irregular form → base forms."""
        return {
            pos: {form: tuple(bases) for form, *bases in map(str.split, lines)}
            for pos, lines in zip(PARTS_OF_SPEECH, self._exception_lines.to_pylist(), strict=True)
        }

    @cached_property
    def _irregular(self) -> dict[PartOfSpeech, dict[str, tuple[str, ...]]]:
        """Base form → irregular forms."""
        found: dict[PartOfSpeech, dict[str, tuple[str, ...]]] = {}
        for pos, exceptions in self._exceptions.items():
            forms: dict[str, list[str]] = {}
            for form, bases in exceptions.items():
                for base in bases:
                    forms.setdefault(base, []).append(form)
            found[pos] = {base: tuple(own) for base, own in forms.items()}
        return found


def _rows(relation: Relation, rows: Iterable[int]) -> Numbers:
    """The concatenated targets of a few rows; for many rows `Relation.of` is faster."""
    starts, targets = relation.starts, relation.targets
    parts = [targets[starts[row] : starts[row + 1]] for row in rows]
    return np.concatenate(parts) if parts else targets[:0]


def _composed(first: Relation, second: Relation) -> Relation:
    """The composition: row of `first` → its targets, as rows of `second` → their targets."""
    lengths = np.diff(second.starts)[first.targets]
    starts = np.append(0, np.cumsum(lengths))[first.starts]
    return Relation(starts, second.targets[second.positions(first.targets)])


def _distinct(numbers: Numbers) -> Numbers:
    """The distinct numbers, ascending; `np.unique` takes three times as long."""
    ordered = np.sort(numbers)
    return ordered[_is_first(ordered)]


def _is_first(ordered: Numbers) -> npt.NDArray[np.bool_]:
    """Whether each number differs from the one before."""
    first = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return first


def _among(distinct: Numbers, few: list[int]) -> npt.NDArray[np.bool_]:
    """Whether each of the ascending numbers is among a few others."""
    found = np.zeros(len(distinct), np.bool_)
    left, right = np.searchsorted(distinct, few), np.searchsorted(distinct, few, "right")
    found[left[left < right]] = True
    return found


@cache
def load_lexicon() -> Lexicon:
    """The lexicon that ships with the package, read once per process.

    Raises:
        FsckitError: its file is missing or damaged.
    """
    return read_lexicon(PACKAGED)


def read_lexicon(path: Path) -> Lexicon:
    """Read a lexicon written by `build_lexicon` and check its digest.

    Raises:
        FsckitError: the file is missing, damaged, of another format version, or not a lexicon.
    """
    fix = "reinstall fsckit, or run 'fscdata lexicon build --wordnet DIR'"
    try:
        file = pa.ipc.open_file(pa.py_buffer(path.read_bytes()))
        metadata = json.loads(file.schema.metadata[METADATA_KEY])
        version = metadata["format_version"]
        if version != FORMAT_VERSION:
            raise FsckitError(
                f"{path}: lexicon format {version}, but this fsckit reads format {FORMAT_VERSION}; "
                f"{fix}"
            )
        batch = file.get_batch(0)
        batch.validate(full=True)  # offsets are within their arrays
        if not batch.schema.equals(SCHEMA) or content_digest(batch) != metadata["digest"]:
            raise FsckitError(f"{path}: the lexicon is damaged; {fix}")
        return Lexicon(batch, metadata)
    except FileNotFoundError:
        raise FsckitError(f"{path}: the lexicon is missing; {fix}") from None
    except FsckitError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        raise FsckitError(f"{path}: not a lexicon, or damaged; {fix}") from None
