"""Values against the types that parameters are annotated with."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, is_dataclass
from inspect import Parameter
from pathlib import PurePath
from types import UnionType
from typing import Any

import msgspec

from sucrose.config.plain_values import value_text

_LISTS: dict[Any, Callable[[list[Any]], Any]] = {list: list, Sequence: list, tuple: tuple}
_MAPS = (dict, Mapping)


class Mismatch(Exception):  # noqa: N818  # never leaves the package
    """A value is not of the type; the message says which one was expected."""


def types_of(func: Any, parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """The types of parameters; `Any` for one without an annotation, or whose annotation cannot be looked up.

    Example:
        >>> def f(a, b: "int", c: "Unknown"): ...
        >>> types_of(f, inspect.signature(f).parameters)
        {'a': typing.Any, 'b': <class 'int'>, 'c': typing.Any}
    """
    declared = _declared(func) if is_dataclass(func) else {}
    names = _globals(func)
    types = {}
    for name, parameter in parameters.items():
        written = declared.get(name, parameter.annotation)
        types[name] = Any if written is Parameter.empty else _evaluated(name, written, names)
    return types


def convert(  # noqa: PLR0911  # one return for each form of a type
    value: Any, kind: Any, nested: Callable[[type, Any, str], Any], where: str
) -> Any:
    """The value as one of a type: whole numbers as floats, lists as tuples, texts as paths and enumerations.

    Types that cannot be checked take anything.

    Args:
        value: as a configuration has it.
        kind: the type.
        nested: makes a dataclass from its type, a value, and the name of the field.
        where: name of the field.

    Raises:
        Mismatch: the value is none of the type.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, InitVar):
        return convert(value, kind.type, nested, where)
    if origin in (typing.Union, UnionType):
        return _one_of(value, arguments, nested, where)
    if isinstance(kind, type) and is_dataclass(kind):
        return nested(kind, value, where)
    if inspect.isclass(kind) and issubclass(kind, PurePath) and isinstance(value, str):
        return kind(value)
    if origin in _LISTS and isinstance(value, list) and (origin is not tuple or arguments[1:] == (...,)):
        items = [convert(item, arguments[0], nested, f"{where}[{at}]") for at, item in enumerate(value)]
        return _LISTS[origin](items)
    if origin in _MAPS and isinstance(value, dict):
        return {name: convert(part, arguments[1], nested, f"{where}.{name}") for name, part in value.items()}
    return _converted(value, kind)


def _converted(value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        told = str(error).partition(", got")[0].replace("Expected", "expected").replace("`", "")
        raise Mismatch(f"{told}, found {value_text(value)}") from None
    except TypeError:
        return value


def _one_of(value: Any, kinds: tuple[Any, ...], nested: Callable[[type, Any, str], Any], where: str) -> Any:
    if type(value) in kinds:
        return value
    problems = []
    for kind in kinds:
        try:
            return convert(value, kind, nested, where)
        except Mismatch as error:
            problems.append(str(error).partition(", found")[0].removeprefix("expected "))
    raise Mismatch(f"expected {' or '.join(problems)}, found {value_text(value)}")


def _declared(cls: Any) -> dict[str, Any]:
    """Annotations of a dataclass and its bases, each evaluated where it was written."""
    return {
        name: _evaluated(name, written, _globals(base))
        for base in reversed(inspect.getmro(cls))
        for name, written in inspect.get_annotations(base).items()
    }


def _globals(func: Any) -> dict[str, Any]:
    while isinstance(func, functools.partial):
        func = func.func
    func = inspect.unwrap(func)
    return vars(inspect.getmodule(func)) if inspect.getmodule(func) is not None else {}


def _evaluated(name: str, written: Any, names: dict[str, Any]) -> Any:
    """What an annotation means; it may be a text, and of a name that only type checkers import."""

    def holder() -> None: ...

    holder.__annotations__ = {name: written}
    try:
        return typing.get_type_hints(holder, names)[name]
    except Exception:  # noqa: BLE001  # an annotation may be any expression
        return Any
