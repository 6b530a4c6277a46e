"""Texts with references, taken apart: ``${field}``, ``${a.${b}}``, ``${env:NAME}``; ``$${`` is a literal ``${``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

_MAX_DEPTH = 10


@dataclass(frozen=True, slots=True)
class Reference:
    """What stands in the braces: a name, parts of which may be references themselves."""

    parts: tuple[Part, ...]


Part: TypeAlias = "str | Reference"


def has_references(text: str) -> bool:
    """Whether the text has to be taken apart at all."""
    return "${" in text


def parse_template(text: str) -> tuple[Part, ...]:
    """The text as pieces and references.

    Raises:
        ValueError: a brace is not closed, nothing is in the braces, or they are nested too deep.

    Example:
        >>> parse_template("x_${model.dim}")
        ('x_', Reference(parts=('model.dim',)))
    """
    parts, end = _parse(text, 0, 0)
    assert end == len(text)
    return parts


def _parse(text: str, at: int, depth: int) -> tuple[tuple[Part, ...], int]:
    """Parts from `at` to the end, or in braces to the one that closes; and the position there."""
    parts: list[Part] = []
    literal: list[str] = []
    while at < len(text):
        if text.startswith("$${", at):
            literal.append("${")
            at += 3
        elif text.startswith("${", at):
            if depth == _MAX_DEPTH:
                raise ValueError(f"references nested deeper than {_MAX_DEPTH} levels")
            inside, end = _parse(text, at + 2, depth + 1)
            if end == len(text):
                raise ValueError(
                    f"the reference {text[at : at + 40]!r} is not closed; write '$${{' where none is meant"
                )
            if not inside:
                raise ValueError("a reference '${}' without a name; write '$${' where none is meant")
            if literal:
                parts.append("".join(literal))
                literal.clear()
            parts.append(Reference(inside))
            at = end + 1
        elif depth and text[at] == "}":
            break
        else:
            literal.append(text[at])
            at += 1
    if literal:
        parts.append("".join(literal))
    return tuple(parts), at
