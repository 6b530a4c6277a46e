"""Which definition of a field holds: the nearest domain's, or an override's. Values are not looked into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sucrose.config.flattening import Field, above
from sucrose.config.overrides import Override
from sucrose.config.suggestions import did_you_mean, nearest
from sucrose.errors import ConfigError, UnknownFieldError


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One place that gives a field a value.

    Attributes:
        field: its name.
        value: as it is written, with references unresolved.
        domain: the one that it stands in; None for an override.
        path: the file, and `line` the line in it, from 1; None for an override.
        override: ``field=value``, such that it has this effect; None in a file.
        source: where the override comes from: ``argument`` or ``SUCROSE_OVERRIDES``.
    """

    field: str
    value: Any
    domain: str | None = None
    path: str | None = None
    line: int | None = None
    override: str | None = None
    source: str | None = None

    @property
    def place(self) -> str:
        """Where it is, for people."""
        if self.override is not None:
            by = "an argument" if self.source == "argument" else self.source
            return f"the override {self.override!r} by {by}"
        return f"{self.path}:{self.line}, domain {self.domain!r}"


class Layers:
    """The fields that a scenario sees.

    Args:
        path: the file.
        domains: those that are searched, nearest first.
        fields: of each of them.

    Attributes:
        definitions: the one that holds, of each field; fields of the farthest domain come first.
    """

    def __init__(self, path: str, domains: tuple[str, ...], fields: Mapping[str, Mapping[str, Field]]) -> None:
        self.path = path
        self.domains = domains
        self._fields = fields
        self.definitions: dict[str, Definition] = {}
        for domain in reversed(domains):
            for field in fields[domain]:
                self.definitions[field] = self._definition(domain, field)
        self._in_file = frozenset(self.definitions)
        self._groups: dict[str, int] = {}
        for field in self.definitions:
            self._count(field, 1)
        self._removed: dict[str, Override] = {}

    def is_group(self, name: str) -> bool:
        """Whether there are fields below the name; below the empty one there is everything."""
        return not name or name in self._groups

    def below(self, group: str) -> list[str]:
        """Fields whose name begins with that of the group, by whole segments."""
        return [field for field in self.definitions if not group or field.startswith(f"{group}.")]

    def in_file(self, field: str) -> list[Definition]:
        """All definitions in the domains that are searched, nearest first."""
        return [self._definition(domain, field) for domain in self.domains if field in self._fields[domain]]

    def names(self) -> list[str]:
        """Fields and groups."""
        return [*self.definitions, *self._groups]

    @property
    def overrides(self) -> tuple[str, ...]:
        """Those that have an effect, such that the same ones, in this order, have it again."""
        texts = [definition.override for definition in self.definitions.values() if definition.override is not None]
        removed = sorted(self._removed, key=lambda field: -field.count("."))  # a removal takes all fields below with it
        return (*(f"~{field}" for field in removed), *texts)

    def apply(self, override: Override) -> None:
        """Lets an override hold.

        Raises:
            UnknownFieldError: there is no such field, and the override does not say that it is a new one.
            ConfigError: the field is a group.
        """
        if override.is_removal:
            self._remove(override)
            return
        for field, value in override.values:
            if field not in self.definitions and not override.is_new:
                if self.is_group(field):
                    raise ConfigError(
                        f"the override {override.text!r}: {field!r} is a group of fields; "
                        f"override those, such as {self.below(field)[0]!r}",
                        key=field,
                    )
                raise self.unknown(field, f"the override {override.text!r}: ", f", or write '+{override.text}' to add")
            if field not in self.definitions:
                self._count(field, 1)
            is_new = field not in self._in_file
            self._removed.pop(field, None)
            self.definitions.pop(field, None)  # so that overrides stay in their order
            self.definitions[field] = Definition(
                field=field,
                value=value,
                override=f"{'+' if is_new else ''}{field}={override.text_of(field)}",
                source=override.source,
            )

    def _remove(self, override: Override) -> None:
        name, _ = override.values[0]
        fields = [field for field in (name, *self.below(name)) if field in self.definitions]
        if not fields:
            raise self.unknown(name, f"the override {override.text!r}: ")
        for field in fields:
            del self.definitions[field]
            self._count(field, -1)
            if field in self._in_file:
                self._removed[field] = override

    def unknown(self, field: str, before: str = "", after: str = "") -> UnknownFieldError:
        """The error that names a field that there is not, what was searched, and what may have been meant."""
        near = nearest(field, self.names())
        removed = self._removed.get(field)
        reason = "" if removed is None else f"; the override {removed.text!r} has removed it"
        searched = ", ".join(map(repr, self.domains))
        return UnknownFieldError(
            f"{before}no field {field!r} in the domains {searched} of {self.path}"
            f"{reason or did_you_mean(field, self.names())}{after}",
            path=self.path,
            key=field,
            domains=self.domains,
            nearest=near,
        )

    def _definition(self, domain: str, field: str) -> Definition:
        found = self._fields[domain][field]
        return Definition(field=field, value=found.value, domain=domain, path=self.path, line=found.line)

    def _count(self, field: str, by: int) -> None:
        for group in above(field):
            self._groups[group] = self._groups.get(group, 0) + by
            if self._groups[group] == 0:
                del self._groups[group]
