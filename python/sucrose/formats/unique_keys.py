"""JSON objects in which a key stands twice are refused: two readers could see two different things in one file.

The parser of our records keeps the last of several, as most do. Looking for them costs more than parsing, so it is
done only where the text is not the one that we would have written ourselves, which has every key once.
"""

from __future__ import annotations

import json
from typing import Any


def check_unique_keys(text: bytes, canonical: bytes) -> None:
    """Looks for keys that stand twice in one object.

    Args:
        text: JSON that was parsed without an error.
        canonical: what the parsed content is as we write it.

    Raises:
        ValueError: there is one; the message names it.

    Example:
        >>> from sucrose.formats.unique_keys import check_unique_keys
        >>> check_unique_keys(b'{"a": 1, "b": 2}', b'{"a":1,"b":2}')
        >>> check_unique_keys(b'{"a": 1, "a": 2}', b'{"a":2}')
        Traceback (most recent call last):
            ...
        ValueError: the key 'a' stands twice in one object
    """
    if text != canonical:
        json.loads(text, object_pairs_hook=_refuse_twins, parse_int=_keep_text, parse_float=_keep_text)


def _keep_text(number: str) -> str:
    """Numbers were checked by the real parser; converting one of a million digits would take minutes."""
    return number


def _refuse_twins(pairs: list[tuple[str, Any]]) -> None:
    keys = {key for key, _ in pairs}
    if len(keys) < len(pairs):
        seen: set[str] = set()
        twin = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twin!r} stands twice in one object")
