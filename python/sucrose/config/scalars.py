"""What plain words of YAML mean: the core schema of YAML 1.2.

``1e-3`` and ``1E5`` are numbers, ``yes``, ``on`` and ``1_000`` are strings, ``010`` is ten, and a date is a string.

Source: https://yaml.org/spec/1.2.2/#103-core-schema
"""

from __future__ import annotations

import logging
import re
from typing import Any

logger = logging.getLogger(__name__)

_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"[-+]?\.(?:inf|Inf|INF)")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_MAX_DIGITS = 1000  # Python refuses to read or write numbers of more than a few thousand

_DIFFERS_IN_1_1 = re.compile(
    r"(?:yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF)|[-+]?0[0-7]+|[-+]?[0-9][0-9.]*_[0-9_.]*(?:[eE][-+][0-9]+)?"
)


def plain_value(text: str) -> Any:
    """The value of a word without quotes: None, a bool, an int, a float or the text itself.

    Raises:
        ValueError: a whole number of more than 1,000 digits.

    Example:
        >>> plain_value("1e-3"), plain_value("true"), plain_value("yes"), plain_value("~")
        (0.001, True, 'yes', None)
    """
    if text in _WORDS:
        return _WORDS[text]
    for pattern, base in ((_INT, 10), (_OCTAL, 8), (_HEX, 16)):
        if pattern.fullmatch(text):
            if len(text) > _MAX_DIGITS:
                raise ValueError(f"a whole number of {len(text)} digits; quote it if it is a text")
            return int(text, base)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITY.fullmatch(text):
        return float(text.replace(".", ""))
    return text


def word_value(text: str, where: str) -> Any:
    """As `plain_value`, with a warning where readers of YAML 1.1, such as PyYAML alone, would find another value.

    Args:
        text: the word.
        where: where it stands, for the warning.

    Raises:
        ValueError: as for `plain_value`.
    """
    value = plain_value(text)
    if _DIFFERS_IN_1_1.fullmatch(text):
        logger.warning(
            "%s: %s is read as %r, as in YAML 1.2, where YAML 1.1 had another value: "
            "write true, false or a number in the usual form, or put it in quotes",
            where,
            text,
            value,
        )
    return value
