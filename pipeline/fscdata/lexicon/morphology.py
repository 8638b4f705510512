"""The detachment rules of morphy(7WN), in nltk's order."""

from __future__ import annotations

from fscdata.lexicon.table import PartOfSpeech

_DETACHMENTS: dict[PartOfSpeech, str] = {
    "n": "s: ses:s ves:f xes:x zes:z ches:ch shes:sh men:man ies:y",
    "v": "s: ies:y es:e es: ed:e ed: ing:e ing:",
    "a": "er: est: er:e est:e",
    "r": "",
}
_RULES = {
    pos: [tuple(rule.split(":")) for rule in rules.split()] for pos, rules in _DETACHMENTS.items()
}


def detached(word: str, pos: PartOfSpeech) -> tuple[str, ...]:
    """Every form that a rule yields, whether a word or not: "parties" → ("partie", "party")."""
    return tuple(word.removesuffix(old) + new for old, new in _RULES[pos] if word.endswith(old))
