"""YAML, as older releases of torchsnapshot wrote metadata: plain nodes only.

YAML lets a node stand for another one that is written once, so that a hundred bytes can be a billion nodes. Metadata
has never made use of that; here it is refused, before anything is built of it.
"""

from __future__ import annotations

from typing import Any

import yaml

from sucrose.formats.limits import MAX_YAML_NESTING


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # one of two with the same methods
    """Builds plain values only."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A dict; keys that stand twice are refused, and so is what takes over the contents of another one."""
        mapping = yaml.constructor.BaseConstructor.construct_mapping(self, node, deep=deep)
        if len(mapping) < len(node.value):
            raise ValueError("a key stands twice in one mapping")
        return mapping


def parse_yaml(data: bytes) -> Any:
    r"""The one document in `data`.

    Raises:
        ValueError: there is none, or more than plain nodes, each written where it belongs.

    Example:
        >>> from sucrose.formats.old_metadata import parse_yaml
        >>> parse_yaml(b"version: 0.1.0\nworld_size: 1\n")
        {'version': '0.1.0', 'world_size': 1}
        >>> parse_yaml(b"a: &a [1, 2]\nb: *a\n")
        Traceback (most recent call last):
            ...
        ValueError: a node stands in several places
    """
    try:
        _check_events(data)
        return yaml.load(data, _Loader)  # noqa: S506 - plain values only
    except (yaml.YAMLError, ArithmeticError, LookupError, TypeError) as error:
        raise ValueError(f"no plain YAML: {error}") from error


def _check_events(data: bytes) -> None:
    """The loader follows nesting on the C stack, without end; events come one after another."""
    depth = 0
    for event in yaml.parse(data, _Loader):
        if getattr(event, "anchor", None) is not None:
            raise ValueError("a node stands in several places")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_YAML_NESTING:
                raise ValueError(f"more than {MAX_YAML_NESTING} nodes inside each other")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
