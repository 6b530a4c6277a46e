"""Names in a kind that has no nesting: paths joined into one name, and taken apart again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sucrose.errors import UnsupportedError
from sucrose.formats.limits import MAX_NESTING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NESTED = "/"
"""The separator whose names can be taken apart: in paths it is escaped inside of keys."""


def joined_names(paths: Iterable[str], separator: str) -> dict[str, str]:
    """The name for each path.

    Paths without nesting keep their keys as they are, and so does any separator but ``/``: names are what other
    programs know then, and may collide.

    Raises:
        UnsupportedError: two paths get the same name.

    Example:
        >>> from sucrose.interchange.flat_names import joined_names
        >>> joined_names(["model/layer.weight"], "."), joined_names(["a%2Fb"], "/")
        ({'model/layer.weight': 'model.layer.weight'}, {'a%2Fb': 'a/b'})
    """
    kept = list(paths)
    if separator == NESTED and any("/" in path for path in kept):
        return {path: path for path in kept}
    names: dict[str, str] = {}
    path_of: dict[str, str] = {}
    for path in kept:
        name = separator.join(map(decoded_key, path.split("/")))
        other = path_of.setdefault(name, path)
        if other != path:
            raise UnsupportedError(
                f"{other!r} and {path!r} would both be called {name!r}; choose another --flat-separator", key=path
            )
        names[path] = name
    return names


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse, for names that were joined with ``/``; nothing may be both a value and a container.

    Example:
        >>> from sucrose.interchange.flat_names import nested
        >>> nested({"model/w": 1, "model/b": 2, "c%2Fd": 3})
        {'model': {'w': 1, 'b': 2}, 'c/d': 3}
    """
    tree: dict[str, Any] = {}
    for path, value in values.items():
        if path.count("/") >= MAX_NESTING:
            raise UnsupportedError(f"{path[:80]!r}... lies more than {MAX_NESTING} levels deep", key=path)
        *outer, last = map(decoded_key, path.split("/"))
        at: Any = tree
        for key in outer:
            at = at.setdefault(key, _Level())
            if type(at) is not _Level:
                raise UnsupportedError(f"{path!r} lies below {key!r}, which is a value itself", key=path)
        if last in at:
            raise UnsupportedError(f"{path!r} is both a value and a container", key=path)
        at[last] = value
    return {key: _plain(value) for key, value in tree.items()}


def decoded_key(segment: str) -> str:
    """The key that a segment of a path stands for."""
    return segment.replace("%2F", "/").replace("%25", "%")


class _Level(dict[str, Any]):
    """A container of ours: a value that is a dict is none."""


def _plain(value: Any) -> Any:
    return {key: _plain(part) for key, part in value.items()} if type(value) is _Level else value
