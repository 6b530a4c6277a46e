"""A YAML document as a graph of nodes that know their lines.

PyYAML reads the events, and here they become nodes. Its own composer and constructor would recurse as deep as the
document is nested, expand aliases without a limit, and take the last of two equal keys. Here sizes are summed up over
aliases while the graph is built, so that a document that would expand to billions of values is refused at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from sucrose.config.scalars import plain_value
from sucrose.errors import ConfigError

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""That of libyaml, where PyYAML was built with it, is ten times as fast."""

_CORE = "tag:yaml.org,2002:"
_MAX_DEPTH = 50
_MAX_VALUES = 200_000
_REFERENCE_IN_BRACKETS = re.compile(r"[\[{,:]\s*\$\{")
_TYPES: dict[str, type | tuple[type, ...]] = {"null": type(None), "bool": bool, "int": int, "float": (int, float)}


@dataclass(slots=True, kw_only=True)
class Node:
    """A value in the document; `line` counts from 1, `size` and `height` count aliases at each use."""

    line: int
    size: int = 1
    height: int = 1


@dataclass(slots=True, kw_only=True)
class ScalarNode(Node):
    """A single value: its text as it is written, what that means, and whether it has no quotes."""

    text: str
    value: Any
    is_plain: bool


@dataclass(slots=True, kw_only=True)
class ListNode(Node):
    """A sequence."""

    items: list[Node] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class MapNode(Node):
    """A mapping, in the order of the document."""

    pairs: list[tuple[Node, Node]] = field(default_factory=list)


class Document:
    """Builds the graph of one document.

    Args:
        text: the document.
        path: its file, for messages.
    """

    def __init__(self, text: str, path: str) -> None:
        self._text = text
        self._path = path
        self._anchors: dict[str, Node] = {}
        self._open: list[tuple[ListNode | MapNode, list[Node]]] = []
        self._root: Node | None = None

    def compose(self) -> Node | None:
        """The root; None if the document is empty.

        Raises:
            ConfigError: the text is not YAML, or more than one document, or has a tag that is not of the core schema,
                or is too deep or too large. The message begins with file and line.
        """
        n_documents = 0
        for event in self._events():
            if isinstance(event, yaml.DocumentStartEvent):
                n_documents += 1
                if n_documents > 1:
                    raise self._error(event, "a second document begins; expected one")
            elif isinstance(event, yaml.AliasEvent):
                self._attach(event, self._aliased(event))
            elif isinstance(event, yaml.ScalarEvent):
                self._attach(event, self._anchored(event, self._scalar(event)))
            elif isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
                self._begin(event)
            elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
                self._end(event)
        return self._root

    def _events(self) -> Iterator[Any]:
        try:
            yield from yaml.parse(self._text, Loader=LOADER)
        except yaml.MarkedYAMLError as error:
            line = 1 if error.problem_mark is None else error.problem_mark.line + 1
            told = f"{error.problem or error}{self._hint(line)}"
            raise ConfigError(f"{self._path}:{line}: no YAML: {told}", path=self._path) from None
        # PyYAML's own errors are not all that a malformed text makes it raise: escapes of no character, lone surrogates
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            told = " ".join(str(error).split())
            raise ConfigError(f"{self._path}: no YAML: {told}", path=self._path) from None

    def _hint(self, line: int) -> str:
        """What may be meant by a line that is no YAML."""
        written = "".join(self._text.splitlines()[line - 1 : line])
        if "\t" in written[: len(written) - len(written.lstrip())]:
            return "; it begins with a tab, where only spaces can stand"
        if _REFERENCE_IN_BRACKETS.search(written):
            return "; a reference within brackets needs quotes: ['${field}']"
        return ""

    def _begin(self, event: Any) -> None:
        is_list = isinstance(event, yaml.SequenceStartEvent)
        if event.tag not in (None, "!", f"{_CORE}{'seq' if is_list else 'map'}"):
            raise self._error(event, f"the tag {event.tag!r} is none of YAML's core schema")
        node = ListNode(line=_line_of(event)) if is_list else MapNode(line=_line_of(event))
        self._anchored(event, node)
        self._open.append((node, []))
        if len(self._open) > _MAX_DEPTH:
            raise self._error(event, f"nested deeper than {_MAX_DEPTH} levels")

    def _end(self, event: Any) -> None:
        node, children = self._open.pop()
        node.size += sum(child.size for child in children)
        node.height += max((child.height for child in children), default=0)
        if isinstance(node, ListNode):
            node.items = children
        else:
            node.pairs = list(zip(children[::2], children[1::2], strict=True))
        self._attach(event, node)

    def _attach(self, event: Any, node: Node) -> None:
        if node.size > _MAX_VALUES:
            raise self._error(event, f"more than {_MAX_VALUES} values, aliases expanded")
        if len(self._open) + node.height > _MAX_DEPTH:
            raise self._error(event, f"nested deeper than {_MAX_DEPTH} levels, aliases expanded")
        if self._open:
            self._open[-1][1].append(node)
        else:
            self._root = node

    def _anchored(self, event: Any, node: Node) -> Node:
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _aliased(self, event: Any) -> Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            raise self._error(event, f"the alias *{event.anchor} has no anchor before it")
        if any(node is container for container, _ in self._open):
            raise self._error(event, f"the alias *{event.anchor} stands inside of what it refers to")
        return node

    def _scalar(self, event: Any) -> ScalarNode:
        text: str = event.value
        is_plain = not event.style and event.tag is None
        name = None if event.tag is None else event.tag.removeprefix(_CORE)
        try:
            text.encode()
            value = plain_value(text) if is_plain or name in _TYPES else text
        except ValueError as error:
            raise self._error(event, str(error)) from None
        if name in _TYPES:
            if not _is_a(value, name):
                raise self._error(event, f"{text!r} has the tag !!{name}, and is none")
            value = float(value) if name == "float" else value
        elif name not in (None, "!", "str"):
            raise self._error(event, f"the tag {event.tag!r} is none of YAML's core schema")
        return ScalarNode(line=_line_of(event), text=text, value=value, is_plain=is_plain)

    def _error(self, event: Any, problem: str) -> ConfigError:
        return ConfigError(f"{self._path}:{_line_of(event)}: {problem}", path=self._path)


def _is_a(value: Any, name: str) -> bool:
    return isinstance(value, _TYPES[name]) and (name == "bool" or not isinstance(value, bool))


def _line_of(event: Any) -> int:
    return int(event.start_mark.line) + 1
