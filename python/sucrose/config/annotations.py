"""Values against the types that parameters are annotated with."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, is_dataclass
from enum import Enum
from inspect import Parameter
from pathlib import PurePath
from types import UnionType
from typing import Any, TypeAlias

import msgspec

from sucrose.config.plain_values import value_text
from sucrose.config.scalars import plain_value

Nested: TypeAlias = Callable[[Sequence[type], Any, str], Any]
"""Makes one of several dataclasses, the first that fits, of a value and the name of the field."""

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
    value: Any, kind: Any, nested: Nested, where: str
) -> Any:
    """The value as one of a type: whole numbers as floats, lists as tuples, texts as paths, enumerations and devices.

    Types that cannot be checked take anything.

    Args:
        value: as a configuration has it.
        kind: the type.
        nested: makes dataclasses.
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
        return nested([kind], value, where)
    if inspect.isclass(kind) and issubclass(kind, PurePath) and isinstance(value, str):
        return kind(value)
    if inspect.isclass(kind) and kind.__module__ == "torch" and isinstance(value, str):
        return _of_torch(value, kind)
    if origin in _LISTS and isinstance(value, list) and (origin is not tuple or arguments[1:] == (...,)):
        items = [convert(item, arguments[0], nested, f"{where}[{at}]") for at, item in enumerate(value)]
        return _LISTS[origin](items)
    if origin in _MAPS and isinstance(value, dict):
        return {
            _key(name, arguments[0], nested, where): convert(part, arguments[1], nested, f"{where}.{name}")
            for name, part in value.items()
        }
    return _converted(value, kind)


def _converted(value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        choices = [member.value for member in kind] if _is_enum(kind) else typing.get_args(kind)
        if choices and str(error).startswith("Invalid enum value"):
            told = f"expected one of {', '.join(map(value_text, choices))}"
        else:
            told = str(error).partition(", got")[0].replace("Expected", "expected").replace("`", "")
            told = re.sub(r"\barray\b", "list", re.sub(r"\bobject\b", "map", told))  # those are JSON's names
        raise Mismatch(f"{told}, found {value_text(value)}") from None
    except TypeError:
        return value


def _is_enum(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, Enum)


def _key(name: str, kind: Any, nested: Nested, where: str) -> Any:
    """A key of a map, which is a text until its type says something else."""
    return name if kind in (str, Any) else convert(plain_value(name), kind, nested, where)


def _of_torch(value: str, kind: Any) -> Any:
    """A device or a type of numbers by its name: ``cuda:0``, ``float32``. Who has such a type has imported torch."""
    torch = sys.modules["torch"]
    try:
        if kind is torch.device:
            return torch.device(value)
    except RuntimeError:
        raise Mismatch(f"expected a device such as cpu or cuda:0, found {value_text(value)}") from None
    found = getattr(torch, value.removeprefix("torch."), None) if kind is torch.dtype else None
    if not isinstance(found, torch.dtype):
        raise Mismatch(f"expected {kind.__module__}.{kind.__qualname__}, found {value_text(value)}")
    return found


def _one_of(value: Any, kinds: tuple[Any, ...], nested: Nested, where: str) -> Any:
    if type(value) in kinds:
        return value
    dataclasses = [kind for kind in kinds if inspect.isclass(kind) and is_dataclass(kind)]
    if dataclasses and isinstance(value, dict):
        return nested(dataclasses, value, where)
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
