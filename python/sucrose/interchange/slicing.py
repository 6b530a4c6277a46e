"""Parts of a tensor, as somebody writes them: ``"0:2,:"``. No torch here, and nothing is evaluated."""

from __future__ import annotations

import re
from typing import TypeAlias

from sucrose.errors import ConfigError

Index: TypeAlias = "tuple[int | slice | type(Ellipsis), ...]"  # type: ignore[valid-type]

_NUMBER = r"\s*(-?\d+)\s*"
_SLICE = re.compile(r"\s*(-?\d+)?\s*:\s*(-?\d+)?\s*(?::\s*(-?\d+)?\s*)?")


def parse_slice(text: str) -> Index:
    """The index that `text` means, as it would stand in brackets.

    Raises:
        ConfigError: it is none of numbers, slices with a positive step, and one ``...``.

    Example:
        >>> from sucrose.interchange.slicing import parse_slice
        >>> parse_slice("0:2, :, -1")
        (slice(0, 2, None), slice(None, None, None), -1)
    """
    parts: list[int | slice | type(Ellipsis)] = []  # type: ignore[valid-type]
    for word in text.split(","):
        number = re.fullmatch(_NUMBER, word)
        found = _SLICE.fullmatch(word)
        if number is not None:
            parts.append(int(number[1]))
        elif word.strip() == "..." and ... not in parts:
            parts.append(...)
        elif found is not None and (found[3] is None or int(found[3]) > 0):
            parts.append(slice(*(None if part is None else int(part) for part in found.groups())))
        else:
            raise ConfigError(f"{text!r}: {word.strip()!r} is no part of an index such as '0:2,:,-1'")
    return tuple(parts)
