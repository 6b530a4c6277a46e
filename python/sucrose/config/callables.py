"""Which keywords a callable takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter
from types import FunctionType
from typing import Any

_BY_KEYWORD = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keywords:
    """What a callable takes by keyword.

    Attributes:
        parameters: those that have a name.
        takes_any: whether it takes other names too, or nobody can tell.
    """

    parameters: Mapping[str, Parameter]
    takes_any: bool

    def accepts(self, name: str) -> bool:
        """Whether a call with this keyword is one that the callable allows."""
        return self.takes_any or name in self.parameters

    @property
    def required(self) -> list[str]:
        """Names without which a call fails."""
        return [name for name, parameter in self.parameters.items() if parameter.default is Parameter.empty]


def keywords_of(func: Callable[..., Any]) -> Keywords:
    """What `func` takes: a function, a class, a partial object, or something else that can be called.

    Raises:
        TypeError: it cannot be called.

    Example:
        >>> keywords_of(sorted).accepts("reverse"), keywords_of(sorted).accepts("iterable")
        (True, False)
    """
    if not callable(func):
        raise TypeError(f"{func!r} of type {type(func).__name__} cannot be called; expected a class or a function")
    try:
        signatures = [_keywords(parameters) for parameters in _signatures(func)]
    except ValueError:  # some builtins have no signature; a call tells what is wrong
        return Keywords(parameters={}, takes_any=True)
    first, *others = signatures
    for other in others:
        both = {**other.parameters, **first.parameters}
        parameters = {name: both[name] for name in both if first.accepts(name) and other.accepts(name)}
        first = Keywords(parameters=parameters, takes_any=first.takes_any and other.takes_any)
    return first


def name_of(func: Any) -> str:
    """How messages call it.

    Example:
        >>> import functools
        >>> name_of(dict), name_of(functools.partial(int, base=2))
        ('dict', 'partial of int')
    """
    if hasattr(func, "func") and not hasattr(func, "__qualname__"):
        return f"partial of {name_of(func.func)}"
    return str(getattr(func, "__qualname__", None) or type(func).__qualname__)


def _signatures(func: Callable[..., Any]) -> list[list[Parameter]]:
    """Parameters of all that is called; arguments of a class go to `__new__` and to `__init__`."""
    if inspect.isclass(func) and type(func).__call__ is type.__call__ and not hasattr(func, "__signature__"):
        makers = [maker for maker in (func.__new__, func.__init__) if isinstance(maker, FunctionType)]
        if len(makers) > 1:
            return [list(inspect.signature(maker).parameters.values())[1:] for maker in makers]
    return [list(inspect.signature(func).parameters.values())]


def _keywords(parameters: list[Parameter]) -> Keywords:
    return Keywords(
        parameters={parameter.name: parameter for parameter in parameters if parameter.kind in _BY_KEYWORD},
        takes_any=any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters),
    )
