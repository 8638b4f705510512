"""The compiled WordNet at run time: arrays, and the questions that are asked of them."""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fscdata.contract import FsckitError
from fscdata.lexicon.morphology import detached
from fscdata.lexicon.relation import Numbers, Relation
from fscdata.lexicon.table import (
    FORMAT_VERSION,
    METADATA_KEY,
    PARTS_OF_SPEECH,
    SCHEMA,
    PartOfSpeech,
    content_digest,
)

PACKAGED = Path(__file__).with_name("wordnet.arrow")  # the one that ships with the package


@dataclass(frozen=True, eq=False, slots=True)
class Replacements:
    """What a word may be replaced by: N names of WordNet ("look_at"), sorted by code point.

    `weights` [N] float64 are WordNet's counts summed over the senses that were reached, each at
    least 1; `relations` [N] are "antonym" or "cohyponym".
    """

    lemmas: tuple[str, ...]
    weights: npt.NDArray[np.float64]
    relations: tuple[str, ...]


class Lexicon:
    """WordNet's nouns, verbs, adjectives and adverbs; see `load_lexicon`.

    Attributes:
        digest: BLAKE2b-128 of the content, as hex.
        wordnet_version, source: what it was built from.
    """

    def __init__(self, batch: pa.RecordBatch, metadata: dict[str, str]) -> None:
        self.digest = metadata["digest"]
        self.wordnet_version = metadata["wordnet_version"]
        self.source = metadata["source"]
        columns = {name: batch.column(name).flatten() for name in batch.schema.names}
        self._names = columns["names"]
        self._senses = Relation.from_arrow(columns["senses"])
        self._lemmas = Relation.from_arrow(columns["lemmas"])
        self._weights: Numbers = np.maximum(1, columns["counts"].to_numpy())
        self._hypernyms = Relation.from_arrow(columns["hypernyms"])
        self._hyponyms = self._hypernyms.inverse()
        self._antonyms = Relation.from_arrow(columns["antonyms"])
        self._derivations = Relation.from_arrow(columns["derivations"])
        starts = columns["first_synset"].to_pylist()
        self._range = dict(zip(PARTS_OF_SPEECH, pairwise(starts), strict=True))
        self._exception_lines = columns["exceptions"]
        # One string object a name, made when first asked for, however many words share it.
        self._texts = np.full(len(self._names), None, dtype=object)
        self._senses_of = lru_cache(maxsize=2**16)(self._look_up)
        # A word has up to some thousand replacements: held for the common words only.
        self._cached_replacements = lru_cache(maxsize=1024)(self._replacements)

    def base_forms(self, word: str, pos: PartOfSpeech) -> list[str]:
        """The word's lemmas, as morphy(7WN) and nltk find them: "geese" → ["goose"].

        The word itself comes first where it is a lemma; a word that WordNet does not have gives [].
        """
        word = word.lower()
        bases = self._exceptions[pos].get(word)
        if bases is None:
            bases = detached(word, pos)
        return [form for form in dict.fromkeys((word, *bases)) if self.contains(form, pos)]

    def contains(self, lemma: str, pos: PartOfSpeech) -> bool:
        """Whether WordNet has a lemma, given in lower case with underscores ("look_at")."""
        return len(self._senses_of(lemma, pos)) > 0

    def replacements(self, word: str, pos: PartOfSpeech) -> Replacements:
        """Antonyms and cousins of every sense of a word, synonyms in any sense left out.

        Cousins are lemmas of synsets that share a grandparent (hypernym of a hypernym) with a
        sense of the word; an adjective goes to the nouns derived from it and comes back from their
        cousins, which is how "red" reaches "blue". As SugarCrepe's and FSC-CLIP's REPLACE, except
        that every sense has its own count.
        """
        return self._cached_replacements(word.lower(), pos)

    def _replacements(self, word: str, pos: PartOfSpeech) -> Replacements:
        rows = [self._senses_of(form, pos) for form in self.base_forms(word, pos)]
        synsets = np.unique(np.concatenate([np.empty(0, np.int32), *rows]))
        own = self._lemmas.positions(synsets)
        antonyms = self._antonyms.of(own)
        cousins = (
            self._derived_cousins(own)
            if pos == "a"
            else self._lemmas.positions(self._cousins(synsets))
        )
        reached = np.union1d(antonyms, cousins)
        names = self._lemmas.targets[reached]
        # A cousin that is another sense of the word has a synonym's name, so this drops it too.
        kept = ~np.isin(names, np.append(self._lemmas.targets[own], self._find(word)))
        distinct, place = np.unique(names[kept], return_inverse=True)
        weights = np.zeros(len(distinct))
        np.add.at(weights, place, self._weights[reached[kept]])
        weights.flags.writeable = False
        is_antonym = np.isin(distinct, self._lemmas.targets[antonyms])
        return Replacements(
            lemmas=self._spell(distinct),
            weights=weights,
            relations=tuple("antonym" if x else "cohyponym" for x in is_antonym),
        )

    def _cousins(self, synsets: Numbers) -> Numbers:
        """Synsets that share a grandparent with one of these; these are among them."""
        grandparents = self._hypernyms.of(self._hypernyms.of(synsets))
        return self._hyponyms.of(self._hyponyms.of(grandparents))

    def _derived_cousins(self, adjectives: Numbers) -> Numbers:
        """Lemmas of adjectives derived from the cousins of the nouns of these lemmas."""
        related = self._lemmas.row_of(self._derivations.of(adjectives))
        derived: list[Numbers] = [np.empty(0, np.int32)]
        for noun in np.unique(related[self._within("n", related)]):
            cousins = np.setdiff1d(self._cousins(np.array([noun])), noun)
            lemmas = self._derivations.of(self._lemmas.positions(cousins))
            derived.append(lemmas[self._within("a", self._lemmas.row_of(lemmas))])
        return np.concatenate(derived)

    def _within(self, pos: PartOfSpeech, synsets: Numbers) -> npt.NDArray[np.bool_]:
        first, end = self._range[pos]
        within: npt.NDArray[np.bool_] = (first <= synsets) & (synsets < end)
        return within

    def _find(self, name: str) -> list[int]:
        """The number of a name, if it is there."""
        i = bisect_left(range(len(self._names)), name, key=lambda i: self._names[i].as_py())
        return [i] if i < len(self._names) and self._names[i].as_py() == name else []

    def _look_up(self, lemma: str, pos: PartOfSpeech) -> Numbers:
        synsets = self._senses.of(np.array(self._find(lemma), np.int64))
        return synsets[self._within(pos, synsets)]

    def _spell(self, names: Numbers) -> tuple[str, ...]:
        missing = names[self._texts[names] == None]  # noqa: E711  (by element)
        self._texts[missing] = self._names.take(pa.array(missing)).to_numpy(zero_copy_only=False)
        return tuple(self._texts[names])

    @cached_property
    def _exceptions(self) -> dict[PartOfSpeech, dict[str, tuple[str, ...]]]:
        """Irregular form → base forms."""
        return {
            pos: {form: tuple(bases) for form, *bases in map(str.split, lines)}
            for pos, lines in zip(PARTS_OF_SPEECH, self._exception_lines.to_pylist(), strict=True)
        }


@cache
def load_lexicon() -> Lexicon:
    """The lexicon that ships with the package, read once a process.

    Raises:
        FsckitError: its file is missing or damaged.
    """
    return read_lexicon(PACKAGED)


def read_lexicon(path: Path) -> Lexicon:
    """A lexicon that `build_lexicon` wrote, its content checked against the digest inside.

    Raises:
        FsckitError: the file is missing, damaged, of another format version, or something else.
    """
    again = "install fsckit again, or make it with 'fscdata lexicon build --wordnet DIR'"
    try:
        batch = pa.ipc.open_file(pa.py_buffer(path.read_bytes())).get_batch(0)
        metadata = json.loads(batch.schema.metadata[METADATA_KEY])
        version = metadata["format_version"]
        if version != FORMAT_VERSION:
            raise FsckitError(
                f"{path}: a lexicon of format {version}, where this fsckit reads {FORMAT_VERSION}; "
                f"{again}"
            )
        batch.validate(full=True)  # no offset leads out of its array
        if not batch.schema.equals(SCHEMA) or content_digest(batch) != metadata["digest"]:
            raise FsckitError(f"{path}: the lexicon is damaged; {again}")
        return Lexicon(batch, metadata)
    except FileNotFoundError:
        raise FsckitError(f"{path}: the lexicon is missing; {again}") from None
    except FsckitError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        raise FsckitError(f"{path}: not a lexicon, or damaged; {again}") from None
