"""The interface of a negative style, and the lookup of styles by name."""

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
    """Replaces caption[start:end], which is `old`, with `new`."""

    start: int
    end: int
    old: str
    new: str


class Negative(NamedTuple):
    """A hard negative and how it was made from the caption."""

    text: str
    operator: str
    edits: list[Edit]
    relation: str | None = None


class Caption(NamedTuple):
    """A style's input: the text, its parse (read-only), and negatives that came with the data."""

    text: str
    parse: Parse | None = None
    published: Sequence[str] = ()


class Style(ABC):
    """A way to make hard negatives; each module of `styles` has `create(argument) -> Style`.

    Attributes:
        name: as in recipes, with its argument.
        version: increased whenever the negatives change.
        options: settings that affect the negatives.
        libraries: packages whose versions affect the negatives.
        uses_parse, uses_lexicon: whether the style reads the parse and the lexicon.
        returns_all: whether the style returns all negatives that it has, however few are asked for.
    """

    name: str
    version: int
    options: ClassVar[dict[str, Any]] = {}
    libraries: ClassVar[tuple[str, ...]] = ()
    uses_parse: ClassVar[bool] = True
    uses_lexicon: ClassVar[bool] = False
    returns_all: ClassVar[bool] = False

    @abstractmethod
    def negatives(self, caption: Caption, draw: Draw, variants: int) -> list[Negative] | str:
        """Up to `variants` different negatives in the order drawn, or the reason there are none."""


def apply_edits(text: str, edits: list[Edit]) -> str:
    """The text with the edits applied, which must be in order and not overlap."""
    parts, position = [], 0
    for edit in edits:
        parts += [text[position : edit.start], edit.new]
        position = edit.end
    parts.append(text[position:])
    return "".join(parts)


def seed_key(seed: int, style: Style) -> hashlib.blake2b:
    """A hash; adding a caption to it gives the key for that caption's draws."""
    parts = [seed, style.name, style.version, style.options]
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode() + b"\0", digest_size=8)


def style_names() -> list[str]:
    """The names of the modules in `styles`."""
    return sorted(module.name for module in pkgutil.iter_modules(styles.__path__))


def create_style(name: str) -> Style:
    """The style with that name: `NAME` or `NAME-ARGUMENT` (`shuffle-2`).

    Raises:
        FsckitError: unknown style, or an argument that it does not accept.
    """
    module, _, argument = name.partition("-")
    if module not in style_names():
        raise FsckitError(f"unknown style '{name}'; choose one of {', '.join(style_names())}")
    style: Style = importlib.import_module(f"{styles.__name__}.{module}").create(argument or None)
    return style


def no_argument(name: str, argument: str | None) -> None:
    """Raise FsckitError if a style that takes no argument was given one."""
    if argument is not None:
        raise FsckitError(f"style '{name}' takes no argument; remove '-{argument}'")
