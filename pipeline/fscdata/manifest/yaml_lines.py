"""A YAML file of a stranger's, and the lines where its fields stand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from yaml import Node

from fscdata.base.errors import FsckitError
from fscdata.base.text import is_unicode, printable

__all__ = ["Node", "place", "read_value", "read_yaml"]

LARGEST = 2**20  # bytes
DEEPEST = 20  # lists and mappings in one another

_OPENING = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
_CLOSING = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)


def read_yaml(path: Path) -> tuple[Node, Any]:
    """The top node of a file, a mapping, and its value.

    Raises:
        FsckitError: it cannot be read, is no YAML or no mapping, has a key twice or an alias.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise FsckitError(f"{path}: larger than a manifest can be (1 MiB); name another file")
        return _parse(path, path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise FsckitError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise FsckitError(f"{path}: not UTF-8; write it anew in that") from None


def read_value(text: str) -> Any:
    """A single value of the command line; what YAML makes nothing of is text."""
    try:
        _refuse_odd("", text)
        return yaml.safe_load(text)
    except (FsckitError, yaml.YAMLError, ValueError):
        return text


def _parse(path: Path, text: str) -> tuple[Node, Any]:
    loader = yaml.SafeLoader(text)
    try:
        _refuse_odd(path, text)
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise FsckitError(f"{path}, line 1: a manifest is a mapping of fields to values")
        for line, twice in _repeated(node):
            raise FsckitError(f"{path}, line {line}: '{twice}' comes twice; keep one")
        return node, loader.construct_document(node)
    except FsckitError:
        raise
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = printable(getattr(error, "problem", None) or str(error).partition("\n")[0])
        raise FsckitError(f"{path}{where}: not YAML ({problem}); mend it") from None
    except ValueError as error:  # an impossible date
        raise FsckitError(f"{path}: not a manifest ({printable(str(error)[:100])})") from None
    finally:
        loader.dispose()


def _refuse_odd(path: Path | str, text: str) -> None:
    """Raises FsckitError for small files of huge values, or on which PyYAML itself fails."""
    depth = 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        line = token.start_mark.line + 1
        if isinstance(token, yaml.AliasToken):
            raise FsckitError(f"{path}, line {line}: an alias; write the value out")
        if isinstance(token, yaml.TagToken):
            raise FsckitError(f"{path}, line {line}: a tag; write the value without")
        if isinstance(token, yaml.ScalarToken) and not is_unicode(token.value):
            raise FsckitError(f"{path}, line {line}: half a character (\\uD800 to \\uDFFF)")
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if depth > DEEPEST:
            raise FsckitError(f"{path}, line {line}: nested deeper than a manifest can be")


def _repeated(node: Node) -> Iterator[tuple[int, str]]:
    """The keys that a mapping has twice, of which YAML's reader keeps the last in silence."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    yield key.start_mark.line + 1, printable(key.value)
                seen.add(key.value)
            yield from _repeated(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated(item)


def place(node: Node, loc: tuple[int | str, ...]) -> tuple[str, int]:
    """The dotted name of a field, and the line where it stands or, if missing, its parent."""
    names: list[str] = []
    line = node.start_mark.line
    for part in loc:
        names.append(str(part))
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == part), None)
            if found is None:
                break  # the field is missing
            line, node = found[0].start_mark.line, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line
        else:
            names.pop()  # which of several types pydantic tried
            break
    return printable(".".join(names)), line + 1
