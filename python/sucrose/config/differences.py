"""What two resolved configurations have in common, and what not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from sucrose.config.plain_values import plain, value_text


class Missing(Enum):
    """The type of `MISSING`."""

    MISSING = "not set"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing.MISSING
"""In a `Difference`: there is no such field."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that is not the same; as a text it is one line.

    Attributes:
        field: its name.
        saved: the value there was, or `MISSING`.
        now: the value there is, or `MISSING`.

    Example:
        >>> print(Difference("optim.lr", 0.1, MISSING))
        optim.lr: 0.1 -> not set
    """

    field: str
    saved: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.field}: {_text(self.saved)} -> {_text(self.now)}"


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Compares two configurations as `Config.resolved` returns them.

    A whole number and a float of the same value are the same; True and 1 are not.

    Returns:
        What differs, in the order of the fields' names.

    Example:
        >>> [str(difference) for difference in differences({"lr": 0.1, "dim": 3}, {"lr": 0.2, "dim": 3})]
        ['lr: 0.1 -> 0.2']
    """
    fields = sorted({*saved, *now})
    pairs = [Difference(field, saved.get(field, MISSING), now.get(field, MISSING)) for field in fields]
    return [pair for pair in pairs if not _is_same(pair.saved, pair.now)]


def _is_same(one: Any, other: Any) -> bool:
    if one is MISSING or other is MISSING:
        return one is other
    one, other = plain(one), plain(other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_same(one[name], other[name]) for name in one)
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _text(value: Any) -> str:
    return MISSING.value if value is MISSING else value_text(value)
