"""Fields against what will be called with them: all that is wrong at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, TypeVar, cast

from sucrose.config.annotations import Mismatch, convert, types_of
from sucrose.config.callables import keywords_of, name_of
from sucrose.config.layers import Layers
from sucrose.config.plain_values import value_text
from sucrose.config.references import References
from sucrose.config.suggestions import did_you_mean
from sucrose.errors import ConfigError

T = TypeVar("T")

_FAILED: Any = object()


class Schema:
    """Collects problems of fields.

    Args:
        layers: the fields.
        references: what resolves them.
    """

    def __init__(self, layers: Layers, references: References) -> None:
        self._layers = layers
        self._references = references
        self._given: frozenset[str] = frozenset()
        self._problems: list[str] = []

    def build(self, cls: type[T], prefix: str) -> T:
        """An instance of a dataclass.

        Raises:
            ConfigError: the problems, a line each.
            TypeError: `cls` is no dataclass.
        """
        if not is_dataclass(cls):
            raise TypeError(f"{cls!r} is no dataclass")
        built = self._built([cls], self._values(prefix), prefix)
        self._raise(f"does not fit {name_of(cls)}")
        return cast(T, built)

    def check(self, schema: Mapping[str, Callable[..., Any]], given: frozenset[str]) -> None:
        """Compares the fields below prefixes with what takes them.

        Args:
            schema: callables by prefix.
            given: full names of parameters that need no field.

        Raises:
            ConfigError: the problems, a line each.
        """
        self._given = given
        for prefix, func in schema.items():
            self._arguments(func, self._values(prefix), prefix)
        self._raise("does not fit what is called with it")

    def _raise(self, what: str) -> None:
        if self._problems:
            lines = "".join(f"\n  {problem}" for problem in self._problems)
            raise ConfigError(f"{self._layers.domains[0]!r} {what}:{lines}", path=self._layers.path)

    def _values(self, prefix: str) -> dict[str, Any]:
        values = {}
        for name in self._references.names_in(prefix):
            try:
                values[name] = self._references.value(_joined(prefix, name))
            except ConfigError as error:
                self._problems.append(str(error))
                values[name] = _FAILED
        return values

    def _built(self, classes: Sequence[type], value: Any, where: str) -> Any:
        """An instance of the first class that fits; where none does, the fewest problems are told."""
        if not isinstance(value, dict):
            raise Mismatch(f"expected fields of {' or '.join(map(name_of, classes))}, found {value_text(value)}")
        before, attempts = self._problems, []
        for cls in classes:
            self._problems = []
            built = self._instance(cls, value, where)
            attempts.append(self._problems)
            if not self._problems:
                break
        self._problems = before + min(attempts, key=len)
        return built

    def _instance(self, cls: type, value: Mapping[str, Any], where: str) -> Any:
        arguments = self._arguments(cls, value, where)
        if self._problems:
            return _FAILED
        try:
            return cls(**arguments)
        except (TypeError, ValueError) as error:  # by __post_init__
            self._problems.append(f"{where or 'the fields'}: {name_of(cls)} refuses: {error}")
            return _FAILED

    def _arguments(self, func: Callable[..., Any], values: Mapping[str, Any], where: str) -> dict[str, Any]:
        accepted = keywords_of(func)
        types = types_of(func, accepted.parameters)
        arguments = {}
        for name, value in values.items():
            field = _joined(where, name)
            if not accepted.accepts(name):
                hint = did_you_mean(name, accepted.parameters)
                self._problems.append(f"{self._place(field)}: {name_of(func)} does not accept it{hint}")
            elif value is not _FAILED:
                try:
                    arguments[name] = convert(value, types.get(name, Any), self._built, field)
                except Mismatch as error:
                    self._problems.append(f"{self._place(field)}: {error}")
        for name in accepted.required:
            field = _joined(where, name)
            if name not in values and field not in self._given:
                self._problems.append(f"{field}: {name_of(func)} needs it, and there is none")
        return arguments

    def _place(self, field: str) -> str:
        """The field, and where it stands, or where the first field below it does."""
        definition = self._layers.definitions.get(field)
        below = self._layers.below(field)
        if definition is None and below:
            definition = self._layers.definitions[below[0]]
        return field if definition is None else f"{field} ({definition.place})"


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
