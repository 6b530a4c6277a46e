"""Fields given beside the file: as arguments, on the command line, or in the environment.

| override | effect |
| --- | --- |
| `optim.lr=1e-3` | a known field has another value; `[0.9, 0.99]`, `{lr: 1}` and quotes are read as in YAML |
| `optim.name=` | the value is the empty string; `optim.name=null` sets it to null |
| `+optim.beta=0.9` | a field that may be new |
| `~optim.beta` | the field is removed, or all fields of that group |

A map stands for the fields below: `optim={lr: 1, wd: 0}` is `optim.lr=1` and `optim.wd=0`. Values may refer to other
fields, as in the file. `SUCROSE_OVERRIDES` holds overrides with spaces between them, quoted as for a shell.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sucrose.config.flattening import flatten, node_value
from sucrose.config.nodes import Document, ListNode, MapNode, Node, ScalarNode
from sucrose.config.plain_values import flow_text
from sucrose.config.scalars import word_value
from sucrose.errors import ConfigError

OVERRIDES = "SUCROSE_OVERRIDES"
SCENARIO = "SUCROSE_SCENARIO"
"""The name of the scenario that programs begin, whatever they say."""

_YAML: dict[str, type[Node]] = {"[": ListNode, "{": MapNode, '"': ScalarNode, "'": ScalarNode}


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """One override.

    Attributes:
        text: as it was given.
        source: ``argument`` or ``SUCROSE_OVERRIDES``.
        values: of each field that it sets; a removal has the name only.
        is_new: whether the fields may be new ones.
        is_removal: whether the field is removed.
    """

    text: str
    source: str
    values: tuple[tuple[str, Any], ...]
    is_new: bool = False
    is_removal: bool = False

    def text_of(self, field: str) -> str:
        """What stands behind the ``=`` in an override of that field alone."""
        name, _, text = self.text.partition("=")
        is_alone = name.removeprefix("+").strip() == field
        return text.strip() if is_alone else flow_text(dict(self.values)[field])


def is_override(text: str) -> bool:
    """Whether the text has the form of an override, and is no name."""
    return "=" in text or text.startswith(("~", "+"))


def parse_override(text: str, source: str = "argument") -> Override:
    """Reads ``field=value``, ``+field=value`` or ``~field``.

    Raises:
        ConfigError: it has none of these forms, or the value is no YAML.

    Example:
        >>> parse_override("optim.lr=1e-3").values
        (('optim.lr', 0.001),)
    """
    where = f"the override {text!r} by {'an argument' if source == 'argument' else source}"
    if not isinstance(text, str):
        raise ConfigError(f"{where} is of type {type(text).__name__}; expected a text such as 'optim.lr=1e-3'")
    if text.startswith("~"):
        return Override(text=text, source=source, values=((_name(text[1:], where), None),), is_removal=True)
    name, separator, written = text.partition("=")
    is_new = name.startswith("+")
    field = _name(name.removeprefix("+"), where)
    if not separator:
        raise ConfigError(f"{where} has no '='; expected something like 'optim.lr=1e-3'")
    values = tuple(_values(field, written.strip(), where))
    return Override(text=text, source=source, values=values, is_new=is_new)


def all_overrides(given: Sequence[str], environ: Mapping[str, str]) -> list[Override]:
    """Those of the arguments, and then those of the environment, which win.

    Raises:
        ConfigError: one of them is malformed.
    """
    if isinstance(given, str):
        raise ConfigError(f"overrides={given!r}: expected a list, such as [{given!r}]")
    return [
        *(parse_override(text) for text in given),
        *(parse_override(text, OVERRIDES) for text in split_overrides(environ.get(OVERRIDES, ""))),
    ]


def split_overrides(text: str) -> list[str]:
    """The overrides in the value of `SUCROSE_OVERRIDES`.

    Raises:
        ConfigError: a quote is not closed.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{OVERRIDES}={text!r}: {error}; expected overrides, quoted as for a shell") from None


def _name(text: str, where: str) -> str:
    name = text.strip()
    if "" in name.split("."):
        raise ConfigError(f"{where} begins with no name of a field; expected something like 'optim.lr=1e-3'")
    return name


def _values(field: str, written: str, where: str) -> Iterator[tuple[str, Any]]:
    value = _value(written, where)
    if isinstance(value, dict) and value:
        yield from ((f"{field}.{name}", part) for name, part in value.items())
    else:
        yield field, value


def _value(written: str, where: str) -> Any:
    """Only what begins like a list, a map or a quoted text is YAML, so that ``#fff`` and ``a: b`` are texts."""
    kind = _YAML.get(written[:1])
    if kind is None:
        try:
            return word_value(written, where) if written else ""
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from None
    try:
        root = Document(f"[{written}\n]", where).compose()
        if not isinstance(root, ListNode) or len(root.items) != 1 or not isinstance(root.items[0], kind):
            raise ConfigError(f"{where}: the value is not a single list, map or quoted text")
        [node] = root.items
        if isinstance(node, MapNode) and node.pairs:
            return {field: found.value for field, found in flatten(node, where).items()}
        return node_value(node, where)
    except ConfigError as error:
        told = str(error).removeprefix(where).lstrip(":0123456789 ")  # what is one line needs no number
        raise ConfigError(f"{where}: {told}; put the value in quotes if it is a text") from None
