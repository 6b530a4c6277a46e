"""Where a value comes from, and which fields had no effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sucrose.config.layers import Definition
from sucrose.config.plain_values import value_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Referred:
    """What a value refers to: a field, a group of fields, or ``env:NAME``."""

    name: str
    value: Any
    definition: Definition | None = None
    """None for a group and for a variable of the environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """All there is to say about a field; as a text it is a few lines.

    Attributes:
        field: its name.
        value: what the program gets.
        definition: the one that holds.
        shadowed: definitions without effect, the nearest one first.
        references: what the written value refers to.
    """

    field: str
    value: Any
    definition: Definition
    shadowed: tuple[Definition, ...] = ()
    references: tuple[Referred, ...] = ()

    @property
    def raw(self) -> Any:
        """The value as it is written, with references unresolved."""
        return self.definition.value

    @property
    def domain(self) -> str | None:
        """The domain that the value is from; None where an override gives it."""
        return self.definition.domain

    @property
    def path(self) -> str | None:
        """The file that the value is from; None where an override gives it."""
        return self.definition.path

    @property
    def line(self) -> int | None:
        """The line in the file, from 1; None where an override gives the value."""
        return self.definition.line

    @property
    def override(self) -> str | None:
        """The override that gives the value; None where the file does."""
        return self.definition.override

    @property
    def override_source(self) -> str | None:
        """``argument`` or ``SUCROSE_OVERRIDES``; None where the file gives the value."""
        return self.definition.source

    def __str__(self) -> str:
        lines = [f"{self.field} = {value_text(self.value)}", f"  from {self.definition.place}"]
        if self.references:
            lines.append(f"  written as {value_text(self.raw)}")
        for reference in self.references:
            place = "" if reference.definition is None else f", from {reference.definition.place}"
            lines.append(f"  {reference.name} = {value_text(reference.value)}{place}")
        lines += [f"  instead of {value_text(other.value)} from {other.place}" for other in self.shadowed]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusedField:
    """A field that had no effect; as a text it is one line.

    Attributes:
        field: its name.
        origin: the definition that holds.
        nearest: a name that the program has asked for, and that may have been meant; None where none is near.
    """

    field: str
    origin: Definition
    nearest: str | None

    def __str__(self) -> str:
        hint = "" if self.nearest is None else f"; did you mean {self.nearest!r}?"
        return f"{self.field!r} ({self.origin.place}) is used by nothing{hint}"
