"""Entities, their modifiers and the relations between them, from a dependency parse.

The rules are those of SceneGraphParser (Jiayuan Mao) as FSC-CLIP and CLoVe use them, which is how
SugarCrepe (Hsieh et al., 2023) names what it replaces: objects, attributes and relations. They
treat the conjuncts of an adjective as adjectives of the same noun; this is done on a copy of the
dependency labels, since the parse is read-only. A phrasal verb is one that WordNet has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fscdata.negatives.parse import Parse, span_root

PHRASAL_PREPOSITIONS = frozenset(
    {
        "in addition to",
        "in front of",
        "in reference to",
        "in regard to",
        "in spite of",
        "on account of",
        "on top of",
        "on side of",
        "on the side of",
        "with regard to",
    }
)


@dataclass(frozen=True, slots=True)
class Element:
    """Tokens [start, end) that can be replaced; `root` is the one that carries the meaning."""

    kind: str  # object, attribute or relation
    start: int
    end: int
    root: int


@dataclass(frozen=True, slots=True)
class SceneGraph:
    """What a caption speaks of. An element may come twice where it joins several entities."""

    entities: list[Element]
    modifiers: list[Element]
    relations: list[Element]


def scene_graph(parse: Parse, is_phrasal_verb: Callable[[str, str], bool]) -> SceneGraph:
    """The scene graph of a caption; `is_phrasal_verb(verb, particle)` takes words as they stand."""
    deps = list(parse.deps)
    children: list[list[int]] = [[] for _ in parse.words]
    for i, head in enumerate(parse.heads):
        if head != i:
            children[head].append(i)
    modifiers = [_modifiers(root, deps, children) for _, _, root in parse.chunks]
    found, not_entities = _relations(parse, deps, is_phrasal_verb)
    kept = [i for i, chunk in enumerate(parse.chunks) if chunk[2] not in not_entities]
    chunks = [parse.chunks[i] for i in kept]
    relations = [
        span
        for subject, object_, span in found
        for x in _with_conjuncts(subject, deps, children)
        for y in _with_conjuncts(object_, deps, children)
        if _inside(x, chunks) and _inside(y, chunks)
    ]
    return SceneGraph(
        [Element("object", *chunk) for chunk in chunks],
        [Element("attribute", m, m + 1, m) for i in kept for m in modifiers[i]],
        [Element("relation", a, b, span_root(parse.heads, a, b)) for a, b in relations],
    )


def _modifiers(root: int, deps: list[str], children: list[list[int]]) -> list[int]:
    """Determiners, numbers and adjectives of a noun and of its compounds."""
    found = []
    stack, seen = [root], {root}
    while stack:
        node = stack.pop()
        for child in children[node]:
            if deps[child] in ("det", "nummod"):
                found.append(child)
            elif deps[child] == "amod":
                for conjunct in _with_conjuncts(child, deps, children):
                    deps[conjunct] = "amod"
                    found.append(conjunct)
            elif deps[child] == "compound" and child not in seen:
                seen.add(child)
                stack.append(child)
    return found


def _with_conjuncts(node: int, deps: list[str], children: list[list[int]]) -> list[int]:
    return [node, *(c for c in children[node] if deps[c] == "conj")]


def _inside(token: int, chunks: list[tuple[int, int, int]]) -> bool:
    return any(start <= token < end for start, end, _ in chunks)


def _subjects(parse: Parse, deps: list[str]) -> dict[int, int]:
    """For each verb its subject: of clauses, of participles, and the agent of passives."""
    subjects = {}
    heads, pos = parse.heads, parse.pos
    for i, dep in enumerate(deps):
        if dep == "nsubj":
            subjects[heads[i]] = i
        elif dep == "acl":
            subjects[i] = heads[i]
        elif dep == "pobj" and deps[heads[i]] == "agent" and pos[heads[heads[i]]] == "VERB":
            subjects[heads[heads[i]]] = i
    return subjects


def _relations(
    parse: Parse, deps: list[str], is_phrasal_verb: Callable[[str, str], bool]
) -> tuple[list[tuple[int, int, tuple[int, int]]], set[int]]:
    """(subject, object, tokens) of each relation, and nouns that are part of a preposition."""
    subjects = _subjects(parse, deps)
    heads = parse.heads
    found = []
    not_entities: set[int] = set()
    for _, _, noun in parse.chunks:
        head = heads[noun]
        if deps[noun] in ("dobj", "attr", "nsubjpass") and head in subjects:
            found.append((subjects[head], noun, (head, head + 1)))
        elif deps[noun] == "pobj" and deps[head] != "agent":
            relation = _preposition(parse, deps, subjects, noun, is_phrasal_verb, not_entities)
            if relation is not None:
                found.append(relation)
    return found, not_entities


def _preposition(
    parse: Parse,
    deps: list[str],
    subjects: dict[int, int],
    noun: int,
    is_phrasal_verb: Callable[[str, str], bool],
    not_entities: set[int],
) -> tuple[int, int, tuple[int, int]] | None:
    """The relation that the preposition of a noun makes, by what the preposition hangs on."""
    heads, pos, words = parse.heads, parse.pos, parse.words
    preposition = heads[noun]
    anchor = heads[preposition]
    above = heads[anchor]
    alone = (preposition, preposition + 1)
    if anchor in subjects and pos[anchor] == "VERB" and anchor + 1 == preposition:
        phrasal = is_phrasal_verb(words[anchor], words[preposition])
        # "a woman looking at a dog", "a woman sitting on a bench"
        return subjects[anchor], noun, (anchor, preposition + 1) if phrasal else alone
    if anchor in subjects and (pos[anchor] == "VERB" or deps[anchor] == "acl"):
        return subjects[anchor], noun, alone  # "a woman is playing the piano in the room"
    if deps[anchor] == "pobj" and _text(parse, above, preposition) in PHRASAL_PREPOSITIONS:
        not_entities.add(anchor)
        return heads[above], noun, (above, preposition + 1)  # "a woman in front of a piano"
    if pos[anchor] == "NOUN":
        return anchor, noun, alone  # "a piano in the room"
    if deps[anchor] in ("amod", "advmod"):
        beside = (anchor, preposition + 1)
        if pos[above] == "NOUN":
            return above, noun, beside  # "a piano next to a woman"
        if pos[above] == "VERB" and above in subjects:
            return subjects[above], noun, beside  # "a woman standing next to a piano"
    if pos[anchor] == "AUX" and anchor in subjects:
        return subjects[anchor], noun, alone  # "a piano is in the room"
    return None


def _text(parse: Parse, first: int, last: int) -> str:
    """Lower-case text from the first to the last token; empty where they come in another order."""
    return parse.text[parse.starts[first] : parse.end(last)].lower() if first <= last else ""
