"""JSON that somebody has edited: values replaced, removed, moved, keys repeated; it stays JSON, mostly.

Each three bytes are one edit: where, counted over all values from the outside in; what; and with what.
"""

from __future__ import annotations

import json
from typing import Any

_TOKENS = (
    "0", "1", "-1", "-0", "1e9", "1.5", "NaN", "-Infinity", "1e999", "9007199254740993", "9223372036854775807",
    "9223372036854775808", "18446744073709551616", "1" + "0" * 400, "1" * 5000, "null", "true", '""', '"1"', '"x"',
    '"\\ud800"', '"\\u0000"', '"/"', '"0f"', '"' + "0f" * 16 + '"', '"' + "0f" * 32 + '"', '"' + "0f" * 64 + '"',
    '"' + "zz" * 32 + '"', "[]", "[0]", "[-1]", "[1125899906842624]", "[[]]", "{}", '{"":0}', '{"a":1,"a":2}',
    "[" * 200 + "]" * 200, "[" * 100_000, "",
)  # fmt: skip
_MAX_EDITS = 40


def edited(text: bytes, edits: bytes) -> bytes:
    """`text`, which is sound, after the edits."""
    document: Any = [json.loads(text)]
    pasted: list[str] = []
    for at in range(0, min(len(edits) - 2, 3 * _MAX_EDITS), 3):
        where, what, argument = edits[at : at + 3]
        places = _places(document)
        if not places:
            break
        container, key = places[where % len(places)]
        kind = what % 6
        if kind == 0:
            pasted.append(_TOKENS[argument % len(_TOKENS)])
            container[key] = _mark(len(pasted) - 1)
        elif kind == 1 and container is not document:
            del container[key]
        elif kind == 2:
            source, source_key = places[argument % len(places)]
            container[key] = json.loads(json.dumps(source[source_key]))
        elif kind == 3 and isinstance(container, dict):
            container[f"new{argument}" if argument else ""] = container[key]
        elif kind == 4 and isinstance(container[key], (int, float)):
            container[key] += argument - 128
        elif isinstance(container[key], str):
            container[key] = container[key][: argument // 2] + chr(argument) + container[key][argument // 2 + 1 :]
    result = json.dumps(document[0], separators=(",", ":"))
    for number, token in enumerate(pasted):
        result = result.replace(json.dumps(_mark(number)), token)
    return result.encode()


def _mark(number: int) -> str:
    """Stands for a token, which need not be JSON, until everything is text."""
    return f"\ue000{number}\ue001"


def _places(document: list[Any]) -> list[tuple[Any, Any]]:
    """Every value, as its container and the key there."""
    found: list[tuple[Any, Any]] = []
    waiting: list[Any] = [document]
    for container in waiting:
        keys = range(len(container)) if isinstance(container, list) else list(container)
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], (dict, list)):
                waiting.append(container[key])
    return found
