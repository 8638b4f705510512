"""The interface of a negative style, and the lookup of styles by name."""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from fscdata.base.errors import FsckitError
from fscdata.base.plugins import SUFFIX, builtin_names, load_plugin, plugin_names
from fscdata.base.text import printable
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
        digest: SHA-256 of the file of a style that is not part of fsckit.
        returns_all: whether the style returns all negatives that it has, however few are asked for.
    """

    name: str
    version: int
    options: ClassVar[dict[str, Any]] = {}
    libraries: ClassVar[tuple[str, ...]] = ()
    uses_parse: ClassVar[bool] = True
    uses_lexicon: ClassVar[bool] = False
    returns_all: ClassVar[bool] = False
    digest: str | None = None

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
    """The names of the modules in `styles`, and of installed styles."""
    return plugin_names(styles)


def create_style(name: str) -> Style:
    """The style with that name: `NAME` or `NAME-ARGUMENT` (`shuffle-2`), or that of a .py file.

    Raises:
        FsckitError: unknown style, an argument that it does not accept, or a module that does not
            create a style.
    """
    module, _, argument = (name, "", "") if name.endswith(SUFFIX) else name.partition("-")
    plugin = load_plugin(module, styles, "style")
    create = getattr(plugin.module, "create", None)
    style = create(argument or None) if callable(create) else None
    if not isinstance(style, Style):
        raise FsckitError(f"{plugin.file}: needs a function create(argument) that returns a Style")
    if plugin.digest is not None:
        # The name becomes a folder, and must find the same style again.
        word = style.name.partition("-")[0]
        if not re.fullmatch(r"[a-z]\w*(-\w+)?", style.name) or word in builtin_names(styles):
            raise FsckitError(
                f"{plugin.file}: the style's name '{printable(style.name)}' is taken or not a "
                f"lowercase word; rename it"
            )
        style.digest = plugin.digest
    return style


def no_argument(name: str, argument: str | None) -> None:
    """Raise FsckitError if a style that takes no argument was given one."""
    if argument is not None:
        raise FsckitError(f"style '{name}' takes no argument; remove '-{argument}'")
