"""What a negative style is, and how one is found by its name."""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from fscdata.base.errors import FsckitError
from fscdata.negatives import styles
from fscdata.negatives.draw import Draw
from fscdata.negatives.parse import Parse


class Edit(NamedTuple):
    """caption[start:end], which reads `old`, becomes `new`."""

    start: int
    end: int
    old: str
    new: str


class Negative(NamedTuple):
    """A hard negative and what was done to the caption to get it."""

    text: str
    operator: str
    edits: list[Edit]
    relation: str | None = None


class Caption(NamedTuple):
    """What a style sees: the text, its parse (read-only), and negatives that came with the data."""

    text: str
    parse: Parse | None = None
    published: Sequence[str] = ()


class Style(ABC):
    """One way to make hard negatives. A module of `styles` has `create(argument) -> Style`."""

    name: str
    version: int
    options: ClassVar[dict[str, Any]] = {}
    libraries: ClassVar[tuple[str, ...]] = ()  # whose versions change what is made
    uses_parse: ClassVar[bool] = True
    uses_lexicon: ClassVar[bool] = False

    @abstractmethod
    def negatives(self, caption: Caption, draw: Draw, variants: int) -> list[Negative] | str:
        """Up to `variants` different negatives, in the order drawn, or the reason for none."""


def apply_edits(text: str, edits: list[Edit]) -> str:
    """The text with the edits made; they are in order and do not overlap."""
    parts, position = [], 0
    for edit in edits:
        parts += [text[position : edit.start], edit.new]
        position = edit.end
    parts.append(text[position:])
    return "".join(parts)


def seed_key(seed: int, style: Style) -> hashlib.blake2b:
    """The hash that, continued with a caption, keys the draws of that caption and style."""
    parts = [seed, style.name, style.version, style.options]
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode() + b"\0", digest_size=8)


def style_names() -> list[str]:
    """The modules of `styles`."""
    return sorted(module.name for module in pkgutil.iter_modules(styles.__path__))


def create_style(name: str) -> Style:
    """The style of that name: `NAME` or `NAME-ARGUMENT` (`shuffle-2`).

    Raises:
        FsckitError: no module of that name, or an argument that it does not take.
    """
    module, _, argument = name.partition("-")
    if module not in style_names():
        raise FsckitError(f"unknown style '{name}'; there are {', '.join(style_names())}")
    style: Style = importlib.import_module(f"{styles.__name__}.{module}").create(argument or None)
    return style


def no_argument(name: str, argument: str | None) -> None:
    """Raises FsckitError where a style that takes no argument was given one."""
    if argument is not None:
        raise FsckitError(f"style '{name}' takes no argument, but got '-{argument}'")
