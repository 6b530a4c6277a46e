"""Nested maps and dotted fields are the same thing: both become flat fields.

1. The keys on the way to a value, joined by dots, are its field. A list is a value, with whatever is in it, and so is
   a map without keys.
2. A field that is written twice in one domain, in whatever form, is refused: one of the two would have no effect.
3. What a merge key ``<<`` brings in gives way to fields that are written out, field by field as between domains; of
   two merged ones the first holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sucrose.config.nodes import ListNode, MapNode, Node, ScalarNode
from sucrose.config.scalars import word_value
from sucrose.errors import ConfigError

_MERGE = "<<"
_MAX_FIELD = 1000  # characters


@dataclass(frozen=True, slots=True)
class Field:
    """A value as it is written, with references unresolved, and the line where it stands, from 1."""

    value: Any
    line: int


def above(field: str) -> list[str]:
    """The groups that a field is in, nearest first.

    Example:
        >>> above("model.encoder.dim")
        ['model.encoder', 'model']
    """
    segments = field.split(".")
    return [".".join(segments[:count]) for count in range(len(segments) - 1, 0, -1)]


def flatten(mapping: MapNode, path: str) -> dict[str, Field]:
    """All fields of a domain.

    Args:
        mapping: the domain.
        path: the file, for messages.

    Raises:
        ConfigError: a field stands there twice, or a key is no name of a field; with file and line.
    """
    return _Flattening(path).of(mapping)


def key_text(key: Node, path: str) -> str:
    """A key as it is written, so that ``1:`` and ``true:`` are names like others.

    Raises:
        ConfigError: it is a list or a map.
    """
    if not isinstance(key, ScalarNode):
        raise ConfigError(f"{path}:{key.line}: a key is a list or a map; expected a name", path=path)
    return key.text


def unique_pairs(mapping: MapNode, path: str) -> Iterator[tuple[str, Node, Node]]:
    """Name, key and value of what is written in a mapping, but for merge keys.

    Raises:
        ConfigError: a key stands there twice.
    """
    lines: dict[str, int] = {}
    for key, value in mapping.pairs:
        if is_merge(key):
            continue
        name = key_text(key, path)
        if name in lines:
            raise ConfigError(
                f"{path}:{key.line}: {name!r} stands there a second time, first in line {lines[name]}; remove one",
                path=path,
                key=name,
            )
        lines[name] = key.line
        yield name, key, value


def is_merge(key: Node) -> bool:
    """Whether the key is ``<<`` without quotes."""
    return isinstance(key, ScalarNode) and key.is_plain and key.text == _MERGE


def merged_maps(mapping: MapNode, path: str) -> Iterator[MapNode]:
    """The maps that merge keys name, the first one first.

    Raises:
        ConfigError: a merge key has another value than a map or a list of maps.
    """
    for key, value in mapping.pairs:
        if is_merge(key):
            for source in value.items if isinstance(value, ListNode) else [value]:
                if not isinstance(source, MapNode):
                    raise ConfigError(f"{path}:{key.line}: '<<' merges maps, such as those of aliases", path=path)
                yield source


def node_value(node: Node, path: str) -> Any:
    """The value of a field: maps in lists stay maps.

    Raises:
        ConfigError: a key stands in a map twice.
    """
    if isinstance(node, ScalarNode):
        return word_value(node.text, f"{path}:{node.line}") if node.is_plain else node.value
    if isinstance(node, ListNode):
        return [node_value(item, path) for item in node.items]
    assert isinstance(node, MapNode)
    values = {name: node_value(value, path) for name, _, value in unique_pairs(node, path)}
    for source in merged_maps(node, path):
        values = {**node_value(source, path), **values}
    return values


class _Flattening:
    def __init__(self, path: str) -> None:
        self._path = path

    def of(self, mapping: MapNode) -> dict[str, Field]:
        written: dict[str, Field] = {}
        merged: dict[str, Field] = {}
        self._collect(mapping, "", written, merged)
        groups = {group for field in written for group in above(field)}
        for field, value in merged.items():
            if field not in groups and not any(group in written for group in above(field)):
                written.setdefault(field, value)
        return written

    def _collect(self, mapping: MapNode, prefix: str, written: dict[str, Field], merged: dict[str, Field]) -> None:
        for name, key, value in unique_pairs(mapping, self._path):
            field = self._field(prefix + name, key)
            if isinstance(value, MapNode) and value.pairs:
                self._collect(value, f"{field}.", written, merged)
            elif field in written:
                raise self._error(
                    key, f"the field {field!r} stands there a second time, first in line {written[field].line}"
                )
            else:
                written[field] = Field(node_value(value, self._path), key.line)
        for source in merged_maps(mapping, self._path):
            for name, value_of_source in self.of(source).items():
                merged.setdefault(prefix + name, value_of_source)

    def _field(self, field: str, key: Node) -> str:
        if "" in field.split("."):
            raise self._error(key, f"the field {field!r} has an empty segment; expected something like 'model.dim'")
        if len(field) > _MAX_FIELD:
            raise self._error(key, f"the name of a field has more than {_MAX_FIELD} characters")
        return field

    def _error(self, key: Node, problem: str) -> ConfigError:
        return ConfigError(f"{self._path}:{key.line}: {problem}", path=self._path)
