"""Entities, their modifiers and the relations between them, from a dependency parse.

The rules come from SceneGraphParser (Jiayuan Mao), as used by FSC-CLIP and CLoVe. The kinds of
elements are SugarCrepe's (Hsieh et al., 2023): objects, attributes and relations. The rules treat
the conjuncts of an adjective as adjectives of the same noun, on a copy of the dependency labels,
since other styles read the parse too. A verb and its particle are one phrasal verb if WordNet has
them as a lemma and the parse has a particle. The published code asks WordNet alone; then
"standing in a kitchen" is one verb too, because of `stand_in` (substitute).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

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


# The labels inside a noun phrase; "conj" because an adjective's conjuncts are adjectives.
_INSIDE = frozenset({"det", "nummod", "amod", "compound", "conj"})
_OBJECTS = frozenset({"dobj", "attr", "nsubjpass"})
Children = dict[int, list[int]]  # head → its dependents with a label of _INSIDE


class Element(NamedTuple):
    """Tokens [start, end) that can be replaced; `root` is the token that carries the meaning."""

    kind: str  # object, attribute or relation
    start: int
    end: int
    root: int


class SceneGraph(NamedTuple):
    """The elements of a caption. A relation between several entities is listed once per pair."""

    entities: list[Element]
    modifiers: list[Element]
    relations: list[Element]


def scene_graph(parse: Parse, is_phrasal_verb: Callable[[str, str], bool]) -> SceneGraph:
    """The scene graph of a caption; `is_phrasal_verb(verb, particle)` takes inflected words."""
    deps = parse.deps.copy()
    children, subjects = _dependents(parse)
    modifiers = [_modifiers(root, deps, children) for _, _, root in parse.chunks]
    found, not_entities = _relations(parse, deps, subjects, is_phrasal_verb)
    entities = [Element("object", *c) for c in parse.chunks if c[2] not in not_entities]
    inside = {token for _, start, end, _ in entities for token in range(start, end)}
    relations = []
    for subject, object_, (start, end) in found:
        subjects_inside = inside.intersection(_with_conjuncts(subject, deps, children))
        objects_inside = inside.intersection(_with_conjuncts(object_, deps, children))
        if subjects_inside and objects_inside:
            root = start if end - start == 1 else span_root(parse.heads, start, end)
            times = len(subjects_inside) * len(objects_inside)
            relations += [Element("relation", start, end, root)] * times
    return SceneGraph(
        entities,
        [
            Element("attribute", m, m + 1, m)
            for chunk, own in zip(parse.chunks, modifiers, strict=True)
            if chunk[2] not in not_entities
            for m in own
        ],
        relations,
    )


def _dependents(parse: Parse) -> tuple[Children, dict[int, int]]:
    """Dependents inside noun phrases, and each verb's subject: of a clause, of a participle, or
    the agent of a passive."""
    children: Children = {}
    subjects = {}
    heads, deps = parse.heads, parse.deps
    for i, dep in enumerate(deps):
        head = heads[i]
        if dep in _INSIDE:
            if head != i:
                children.setdefault(head, []).append(i)
        elif dep == "nsubj":
            subjects[head] = i
        elif dep == "acl":
            subjects[i] = head
        elif dep == "pobj" and deps[head] == "agent" and parse.pos[heads[head]] == "VERB":
            subjects[heads[head]] = i
    return children, subjects


def _modifiers(root: int, deps: list[str], children: Children) -> list[int]:
    """The determiners, numbers and adjectives of a noun and its compounds."""
    found = []
    stack, seen = [root], {root}
    while stack:
        for child in children.get(stack.pop(), ()):
            dep = deps[child]
            if dep in ("det", "nummod"):
                found.append(child)
            elif dep == "amod":
                for conjunct in _with_conjuncts(child, deps, children):
                    deps[conjunct] = "amod"
                    found.append(conjunct)
            elif dep == "compound" and child not in seen:
                seen.add(child)
                stack.append(child)
    return found


def _with_conjuncts(node: int, deps: list[str], children: Children) -> list[int]:
    return [node, *[c for c in children.get(node, ()) if deps[c] == "conj"]]


def _relations(
    parse: Parse,
    deps: list[str],
    subjects: dict[int, int],
    is_phrasal_verb: Callable[[str, str], bool],
) -> tuple[list[tuple[int, int, tuple[int, int]]], set[int]]:
    """(subject, object, tokens) of each relation, and the nouns that belong to a preposition."""
    heads = parse.heads
    found = []
    not_entities: set[int] = set()
    for _, _, noun in parse.chunks:
        head = heads[noun]
        if deps[noun] in _OBJECTS and head in subjects:
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
    """The relation that a noun's preposition expresses, by the preposition's head."""
    heads, pos, words = parse.heads, parse.pos, parse.words
    preposition = heads[noun]
    anchor = heads[preposition]
    above = heads[anchor]
    alone = (preposition, preposition + 1)
    if anchor in subjects and pos[anchor] == "VERB" and anchor + 1 == preposition:
        particle = parse.tags[preposition] == "RP" or deps[preposition] == "prt"
        phrasal = particle and is_phrasal_verb(words[anchor], words[preposition])
        # "a boy jumping off a wall", "a woman sitting on a bench"
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
    """The lower-case text from the first to the last token; empty if last precedes first."""
    return parse.text[parse.starts[first] : parse.end(last)].lower() if first <= last else ""
