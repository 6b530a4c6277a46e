"""Values with their references resolved.

A reference is looked up from the scenario that asks, not from the domain in which it stands: a parent's
``${model.dim}`` is what the child has. A text that is one reference and nothing else has the very value that it
refers to, whatever its type, and a group of fields is a map. Within a longer text only single values can stand.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from sucrose.config.flattening import above
from sucrose.config.layers import Layers
from sucrose.config.plain_values import inserted_text
from sucrose.config.scalars import plain_value
from sucrose.config.suggestions import did_you_mean
from sucrose.config.templates import Part, Reference, has_references, parse_template
from sucrose.errors import ConfigError

_NOTHING: Any = object()
_ENVIRONMENT = "env:"
_MAX_DEPTH = 64  # each takes several of Python's frames
_MAX_SIZE = 200_000


class References:
    """Resolves fields, one request each: values that grow without bound on the way are refused.

    Args:
        layers: the fields.
        on_field: called with each field that takes part in a value.
        environ: of ``${env:NAME}``.
    """

    def __init__(
        self,
        layers: Layers,
        *,
        on_field: Callable[[str], None] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._layers = layers
        self._on_field = on_field
        self._environ = os.environ if environ is None else environ
        self._resolving: list[str] = []
        self._size = 0
        self._depth = 0

    def value(self, name: str) -> Any:
        """The value of a field, or a map of a group's, a fresh one.

        Raises:
            UnknownFieldError: there is neither.
            ConfigError: a reference leads nowhere, or back to itself.
        """
        found = self._find(name)
        if found is None:
            raise self._layers.unknown(name)
        return found[0]

    def group(self, group: str) -> dict[str, Any]:
        """The fields below a group, as nested maps; below the empty name all of them.

        Raises:
            ConfigError: as for `value`; or a name is a value and a group at once.
        """
        tree = self._referred_map(group)
        start = len(group) + 1 if group else 0
        places = {field: field[start:].split(".") for field in self._layers.below(group)}
        for *groups, last in places.values():  # first all names, which then are in the order of the file
            _within(tree, groups).setdefault(last, {})
        for field, (*groups, last) in sorted(places.items(), key=lambda place: len(place[1])):
            value = self.field(field)
            if not isinstance(value, dict) and self._layers.is_group(field):
                below = self._layers.definitions[self._layers.below(field)[0]]
                raise self._error(f"it is a value, and {below.field!r} ({below.place}) is a field below it", field)
            inside = _within(tree, groups)
            inside[last] = _united(inside.get(last), value)
        return tree

    def names_in(self, group: str) -> list[str]:
        """The first segments of what is below a group, each once."""
        start = len(group) + 1 if group else 0
        names = [*self._referred_map(group), *(field[start:].split(".")[0] for field in self._layers.below(group))]
        return list(dict.fromkeys(names))

    def mentioned(self, name: str) -> list[tuple[str, Any]]:
        """Name and value of what the written value of a field refers to."""
        found: dict[str, Any] = {}

        def visit(parts: tuple[Part, ...]) -> None:
            for part in parts:
                if isinstance(part, Reference):
                    visit(part.parts)
                    found.setdefault("".join(map(self._inserted, part.parts)), self._referred(part))

        def walk(value: Any) -> None:
            if isinstance(value, str) and has_references(value):
                visit(self._parsed(value))
            elif isinstance(value, (list, dict)):
                for part in value.values() if isinstance(value, dict) else value:
                    walk(part)

        self._resolving.append(name)
        walk(self._layers.definitions[name].value)
        self._resolving.pop()
        return list(found.items())

    def _find(self, name: str) -> tuple[Any] | None:
        if name in self._layers.definitions:
            value = self.field(name)
            return (_united(value, self.group(name)) if isinstance(value, dict) else value,)
        if self._layers.is_group(name):
            return (self.group(name),)
        for group in above(name):  # a field may be a whole group by reference, and the name one in that
            value = self._referred_map(group)
            for segment in name[len(group) + 1 :].split("."):
                value = value.get(segment, _NOTHING) if isinstance(value, dict) else _NOTHING
            if value is not _NOTHING:
                return (value,)
        return None

    def _referred_map(self, group: str) -> dict[str, Any]:
        """What a group has by being a reference to another one."""
        definition = self._layers.definitions.get(group)
        if definition is None or not isinstance(definition.value, str) or not has_references(definition.value):
            return {}
        value = self.field(group)
        return value if isinstance(value, dict) else {}

    def field(self, field: str) -> Any:
        """The value of a field alone, without what may be below it.

        Raises:
            ConfigError: as for `value`.
        """
        if field in self._resolving:
            cycle = [*self._resolving[self._resolving.index(field) :], field]
            told = " -> ".join(f"{name} ({self._line(name)})" for name in cycle)
            raise ConfigError(
                f"{self._layers.path}: references go round in a circle: {told}", path=self._layers.path, key=field
            )
        if self._on_field is not None:
            self._on_field(field)
        self._resolving.append(field)
        try:
            return self._resolved(self._layers.definitions[field].value)
        finally:
            self._resolving.pop()
            if not self._resolving:
                self._size = 0

    def _resolved(self, value: Any) -> Any:
        self._grow(1)
        self._depth += 1
        try:
            if self._depth > _MAX_DEPTH:
                raise self._error(f"references and lists are nested deeper than {_MAX_DEPTH} levels")
            if isinstance(value, str):
                return self._text(value) if has_references(value) else value
            if isinstance(value, list):
                return [self._resolved(item) for item in value]
            if isinstance(value, dict):
                return {name: self._resolved(item) for name, item in value.items()}
            return value
        finally:
            self._depth -= 1

    def _text(self, text: str) -> Any:
        parts = self._parsed(text)
        if len(parts) == 1 and isinstance(parts[0], Reference):
            return self._referred(parts[0])
        return "".join(map(self._inserted, parts))

    def _parsed(self, text: str) -> tuple[Part, ...]:
        try:
            return parse_template(text)
        except ValueError as error:
            raise self._error(str(error)) from None

    def _inserted(self, part: Part) -> str:
        value = part if isinstance(part, str) else self._referred(part)
        if isinstance(value, (list, dict)):
            raise self._error("a list or a group of fields stands within a text; only single values can")
        text = inserted_text(value)
        self._grow(len(text))
        return text

    def _referred(self, reference: Reference) -> Any:
        name = "".join(map(self._inserted, reference.parts)).strip()
        if name.startswith(_ENVIRONMENT):
            return self._variable(name.removeprefix(_ENVIRONMENT))
        found = self._find(name) if name else None
        if found is None:
            hint = did_you_mean(name, self._layers.names())
            raise self._error(f"it refers to {name!r}, which is no field{hint}")
        return found[0]

    def _variable(self, text: str) -> Any:
        name, has_default, default = text.partition(",")
        written = self._environ.get(name.strip(), default.strip() if has_default else None)
        if written is None:
            raise self._error(f"the environment variable {name.strip()!r} is not set, and there is no default")
        try:
            return plain_value(written) if written else ""
        except ValueError as error:
            raise self._error(f"the environment variable {name.strip()!r}: {error}") from None

    def _grow(self, by: int) -> None:
        self._size += by
        if self._size > _MAX_SIZE:
            raise self._error(f"with all references resolved it is larger than {_MAX_SIZE} values and characters")

    def _error(self, problem: str, field: str | None = None) -> ConfigError:
        field = field or self._resolving[-1]
        place = self._layers.definitions[field].place
        return ConfigError(f"{field!r} ({place}): {problem}", path=self._layers.path, key=field)

    def _line(self, field: str) -> str:
        line = self._layers.definitions[field].line
        return "an override" if line is None else f"line {line}"


def _within(tree: dict[str, Any], groups: list[str]) -> dict[str, Any]:
    """The map at the end of the way, which is made where there is none."""
    for group in groups:
        part = tree.get(group)
        if not isinstance(part, dict):
            part = tree[group] = {}
        tree = part
    return tree


def _united(base: Any, over: Any) -> Any:
    """`over`, and where both are maps what only `base` has."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return {**base, **{name: _united(base.get(name), value) for name, value in over.items()}}
