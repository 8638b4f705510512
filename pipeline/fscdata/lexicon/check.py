"""Compares the lexicon with nltk, word by word."""

from __future__ import annotations

import random
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fscdata.base.errors import FsckitError
from fscdata.base.extras import requires
from fscdata.lexicon.lexicon import Lexicon, load_lexicon
from fscdata.lexicon.table import PARTS_OF_SPEECH, PartOfSpeech
from fscdata.lexicon.wndb import FILE_SUFFIX, FILES

# The list of lexnames(5WN): nltk needs it as a file, which Debian's package lacks.
_LEXNAMES = """\
adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body
noun.cognition noun.communication noun.event noun.feeling noun.food noun.group noun.location
noun.motive noun.object noun.person noun.phenomenon noun.plant noun.possession noun.process
noun.quantity noun.relation noun.shape noun.state noun.substance noun.time verb.body verb.change
verb.cognition verb.communication verb.competition verb.consumption verb.contact verb.creation
verb.emotion verb.motion verb.perception verb.possession verb.social verb.stative verb.weather
adj.ppl
"""
_ENDINGS = ("s", "es", "ies", "ves", "men", "d", "ed", "ing", "er", "est")


@dataclass
class CheckReport:
    """The number of compared words by part of speech, and one line per difference."""

    compared: dict[PartOfSpeech, int] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)


def check_lexicon(source: Path, words: int, seed: int = 0) -> CheckReport:
    """Compare the packaged lexicon with nltk's reading of the same WordNet.

    Args:
        source: WordNet's database folder, as for `build_lexicon`.
        words: lemmas to draw per part of speech; as many inflected forms are added.
        seed: random seed of the draw.

    Raises:
        FsckitError: nltk is missing, or the folder lacks a file.
    """
    lexicon = load_lexicon()
    report = CheckReport()
    generator = random.Random(seed)
    with nltk_wordnet(source) as wordnet:
        reference = _Reference(wordnet, source)
        for pos in PARTS_OF_SPEECH:
            drawn = _draw_words(wordnet, source, pos, words, generator)
            report.compared[pos] = len(drawn)
            for word in drawn:
                report.differences += _differences(lexicon, reference, word, pos)
    return report


@contextmanager
def nltk_wordnet(source: Path) -> Iterator[Any]:
    """nltk's reader of a WordNet folder, on a copy in the layout of nltk's own data.

    nltk only opens files under its data path, does not follow links out of it, and looks up a
    corpus named "wordnet" to map versions.

    Raises:
        FsckitError: nltk is missing, or the folder lacks a file.
    """
    # nltk is optional: only this check needs it.
    with requires("lexicon", "the check"):
        import nltk  # noqa: PLC0415
        from nltk.corpus.reader.wordnet import WordNetCorpusReader  # noqa: PLC0415
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "corpora", "wordnet")
        folder.mkdir(parents=True)
        for name in (*FILES, "cntlist.rev"):
            _copy(source / name, folder)
        numbers = {"noun": 1, "verb": 2, "adj": 3, "adv": 4}
        lines = (
            f"{i:02}\t{n}\t{numbers[n.split('.')[0]]}\n" for i, n in enumerate(_LEXNAMES.split())
        )
        (folder / "lexnames").write_text("".join(lines))
        nltk.data.path.insert(0, temporary)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # other languages are missing
                yield WordNetCorpusReader(str(folder), None)
        finally:
            nltk.data.path.remove(temporary)


def _copy(path: Path, folder: Path) -> None:
    try:
        shutil.copy(path, folder)
    except OSError as error:
        raise FsckitError(
            f"{path}: cannot be read ({error.strerror}); pass WordNet's database folder"
        ) from None


def _draw_words(
    wordnet: Any, source: Path, pos: PartOfSpeech, words: int, generator: random.Random
) -> list[str]:
    """Lemmas, half as many irregular forms, and half as many with a random ending."""
    lemmas = sorted(wordnet.all_lemma_names(pos))
    lines = (source / f"{FILE_SUFFIX[pos]}.exc").read_text(encoding="utf-8").splitlines()
    irregular = [line.split()[0] for line in lines]
    drawn = generator.sample(lemmas, min(words, len(lemmas)))
    drawn += generator.sample(irregular, min(words // 2, len(irregular)))
    for lemma in generator.choices(lemmas, k=words // 2):
        drawn.append(lemma[: len(lemma) - generator.randrange(2)] + generator.choice(_ENDINGS))
    return drawn


def _differences(
    lexicon: Lexicon, reference: _Reference, word: str, pos: PartOfSpeech
) -> list[str]:
    found = []
    forms, wanted_forms = lexicon.base_forms(word, pos), reference.base_forms(word, pos)
    if forms != wanted_forms:
        found.append(f"{word} ({pos}): base forms {forms}, nltk has {wanted_forms}")
    ours = lexicon.replacements(word, pos)
    got = dict(zip(ours.lemmas, zip(ours.weights, ours.relations, strict=True), strict=True))
    wanted = reference.replacements(word, pos)
    for name in sorted(got.keys() | wanted.keys()):
        if got.get(name) != wanted.get(name):
            found.append(f"{word} ({pos}): {name} is {got.get(name)}, nltk has {wanted.get(name)}")
    return found


class _Reference:
    """The replace style's support, defined with nltk's objects.

    In nltk, lemmas with equal names compare equal, so a sense is identified by its synset and name.
    """

    def __init__(self, wordnet: Any, source: Path) -> None:
        self._wordnet = wordnet
        lines = (source / "cntlist.rev").read_text(encoding="utf-8").splitlines()
        self._counts = {key: int(n) for key, _, n in map(str.split, lines)}

    def base_forms(self, word: str, pos: PartOfSpeech) -> list[str]:
        forms: list[str] = self._wordnet._morphy(word.lower(), pos)
        return forms

    def replacements(self, word: str, pos: PartOfSpeech) -> dict[str, tuple[float, str]]:
        """Name → (weight, relation)."""
        senses = self._wordnet.synsets(word, pos=pos)
        left_out = {word.lower()} | {name for s in senses for name in s.lemma_names()}
        cousins = _adjective_cousins if pos == "a" else _cousins
        reached = {_lemma_id(lemma): (lemma, "cohyponym") for s in senses for lemma in cousins(s)}
        for sense in senses:
            for lemma in sense.lemmas():
                reached |= {_lemma_id(a): (a, "antonym") for a in lemma.antonyms()}
        found: dict[str, tuple[float, str]] = {}
        for lemma, relation in reached.values():
            name = lemma.name()
            if name not in left_out:
                weight, before = found.get(name, (0.0, relation))
                weight += max(1, self._count(lemma))
                found[name] = (weight, min(before, relation))  # "antonym" sorts first
        return found

    def _count(self, lemma: Any) -> int:
        """WordNet's count of a sense.

        `cntlist.rev` has a satellite's key with its head's syntactic marker, "afraid(p)"; nltk
        omits the marker and finds no count.
        """
        key = lemma.key()
        if lemma.synset().pos() == "s":
            start, head, head_id = key.rsplit(":", 2)
            marker = lemma.synset().similar_tos()[0].lemmas()[0].syntactic_marker() or ""
            key = f"{start}:{head}{marker}:{head_id}"
        return self._counts.get(key, 0)


def _lemma_id(lemma: Any) -> tuple[str, int, str]:
    """The identity of a sense: part of speech, offset of its synset, name."""
    return (*_synset_id(lemma.synset()), lemma.name())


def _synset_id(synset: Any) -> tuple[str, int]:
    return synset.pos(), synset.offset()


def _cousins(synset: Any) -> Iterator[Any]:
    for parent in synset.hypernyms():
        for grandparent in parent.hypernyms():
            for uncle in grandparent.hyponyms():
                for cousin in uncle.hyponyms():
                    if _synset_id(cousin) != _synset_id(synset):
                        yield from cousin.lemmas()


def _adjective_cousins(synset: Any) -> Iterator[Any]:
    nouns = {}
    for lemma in synset.lemmas():
        for related in lemma.derivationally_related_forms():
            if related.synset().pos() == "n":
                nouns[_synset_id(related.synset())] = related.synset()
    for noun in nouns.values():
        for cousin in _cousins(noun):
            for related in cousin.derivationally_related_forms():
                other = related.synset()
                if other.pos() in ("a", "s") and _synset_id(other) != _synset_id(synset):
                    yield related
