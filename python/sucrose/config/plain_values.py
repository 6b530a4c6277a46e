"""Values of fields as JSON has them, and as people read them."""

from __future__ import annotations

import json
import math
import re
from typing import Any

_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
"""What Python puts before the words that mean the same."""


def plain(value: Any) -> Any:
    """A copy that JSON can hold: numbers that are none become text, as YAML writes them.

    Example:
        >>> plain({"clip": float("inf"), "betas": [0.9, 0.99]})
        {'clip': '.inf', 'betas': [0.9, 0.99]}
    """
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def value_text(value: Any) -> str:
    """One line, with quotes where the value is a text.

    Example:
        >>> print(value_text("no"), value_text(False), value_text(1e-3), value_text(None))
        "no" false 0.001 null
    """
    return json.dumps(plain(value), ensure_ascii=False)


def flow_text(value: Any) -> str:
    """One line of YAML that means exactly this value.

    Example:
        >>> print(flow_text({"clip": float("inf"), "name": ".inf", "betas": [0.9, None]}))
        {"clip": .inf, "name": ".inf", "betas": [0.9, null]}
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{value_text(name)}: {flow_text(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow_text, value)) + "]"
    return str(plain(value)) if isinstance(value, float) else value_text(value)


def inserted_text(value: Any) -> str:
    """A single value inside of a longer text: words as YAML has them, and no quotes."""
    return value if isinstance(value, str) else flow_text(value)


def printable(text: str) -> str:
    r"""The text with escapes for what would move a terminal's cursor, or cannot be encoded: names may be anything.

    Example:
        >>> print(printable("base/\x1b[31m"))
        base/\x1b[31m
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def error_line(error: BaseException) -> str:
    """What an error says, in one line and without the number that says it again.

    Example:
        >>> error_line(FileNotFoundError(2, "No such file or directory", "step_1"))
        "No such file or directory: 'step_1'"
    """
    return _ERRNO.sub("", " ".join(str(error).split())) or type(error).__name__
