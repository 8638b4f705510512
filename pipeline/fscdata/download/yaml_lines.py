"""Reads untrusted YAML files, with the line of each field."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from yaml import Node

from fscdata.base.errors import FsckitError, first_line
from fscdata.base.text import is_unicode, printable

__all__ = ["Node", "locate", "read_value", "read_yaml"]

MAX_SIZE = 2**20  # bytes
MAX_DEPTH = 20  # nested lists and mappings

_OPENING = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
_CLOSING = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)


def read_yaml(path: Path) -> tuple[Node, Any]:
    """A file's top node, which is a mapping, and its value.

    Raises:
        FsckitError: the file cannot be read, is not a YAML mapping, repeats a key or has an alias.
    """
    try:
        if path.stat().st_size > MAX_SIZE:
            raise FsckitError(f"{path}: too large for a manifest (over 1 MiB); use another file")
        return _parse(path, path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise FsckitError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise FsckitError(f"{path}: not UTF-8; save it in that encoding") from None


def read_value(text: str) -> Any:
    """A single value from the command line; text if it is not YAML."""
    try:
        _check_tokens("", text)
        return yaml.safe_load(text)
    except (FsckitError, yaml.YAMLError, ValueError):
        return text


def _parse(path: Path, text: str) -> tuple[Node, Any]:
    loader = yaml.SafeLoader(text)
    try:
        _check_tokens(path, text)
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise FsckitError(f"{path}, line 1: a manifest is a mapping of fields to values")
        for line, key in _repeated_keys(node):
            raise FsckitError(f"{path}, line {line}: '{key}' occurs twice; keep one")
        return node, loader.construct_document(node)
    except FsckitError:
        raise
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = first_line(getattr(error, "problem", None) or error)
        raise FsckitError(f"{path}{where}: not YAML ({problem}); correct it") from None
    except ValueError as error:  # an impossible date
        raise FsckitError(f"{path}: not a manifest ({first_line(error)})") from None
    finally:
        loader.dispose()


def _check_tokens(path: Path | str, text: str) -> None:
    """Raises FsckitError for tokens that expand to huge values or crash PyYAML."""
    depth = 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        line = token.start_mark.line + 1
        if isinstance(token, yaml.AliasToken):
            raise FsckitError(f"{path}, line {line}: aliases are not allowed; write the value out")
        if isinstance(token, yaml.TagToken):
            raise FsckitError(f"{path}, line {line}: tags are not allowed; remove the tag")
        if isinstance(token, yaml.ScalarToken) and not is_unicode(token.value):
            raise FsckitError(
                f"{path}, line {line}: unpaired surrogate (\\uD800 to \\uDFFF); remove it"
            )
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if depth > MAX_DEPTH:
            raise FsckitError(f"{path}, line {line}: nested too deeply for a manifest; flatten it")


def _repeated_keys(node: Node) -> Iterator[tuple[int, str]]:
    """Lines and names of repeated keys; PyYAML would silently keep the last."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    yield key.start_mark.line + 1, printable(key.value)
                seen.add(key.value)
            yield from _repeated_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated_keys(item)


def locate(node: Node, loc: tuple[int | str, ...]) -> tuple[str, int]:
    """A field's dotted name and its line, or its parent's line if the field is missing."""
    names: list[str] = []
    line = node.start_mark.line
    for part in loc:
        names.append(str(part))
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == part), None)
            if pair is None:
                break  # the field is missing
            line, node = pair[0].start_mark.line, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line
        else:
            names.pop()  # pydantic's name for a type that it tried
            break
    return printable(".".join(names)), line + 1
