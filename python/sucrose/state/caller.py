"""Which variable of the program stands for an argument of the call that is being made.

1. The program's frame is the first one outside this package, and outside of methods of the program's own
   with which it has extended classes of this package.
2. The call in it is found in the source by the `executing` library; the value is the keyword argument
   ``value``, or the last one.
3. Without source (python -c, an interactive prompt) it is the only variable that is this object.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any, TypeGuard

from executing import Source

_OURS = ("sucrose.state", "lattice_addons")
_EXTENDABLE = frozenset({"BaseStateManager", "StateManagerGroup"})
_WAY_OUT = "use StateClosureManager, and update it with 'lambda: ...'"


def program_frame() -> FrameType:
    """The frame of the program's that has called into this package."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - inspect.currentframe() is the same with a detour
    while frame is not None and (_is_in_package(frame) or _is_extension(frame)):
        frame = frame.f_back
    assert frame is not None  # somebody has called
    return frame


def name_of_variable(frame: FrameType, value: object, key: str) -> str:
    """The variable that `frame` is just passing as the value of the state `key`.

    Raises:
        TypeError: it passes something else than a variable, or that cannot be found out.
    """
    node = Source.executing(frame).node
    if not isinstance(node, ast.Call):
        return _only_name(frame, value, key)
    argument = _value_argument(node)
    if not isinstance(argument, ast.Name):
        what = "'*' or '**'" if argument is None else f"'{ast.unparse(argument)}'"
        raise TypeError(f"the state {key!r} is given by {what}, which is not a plain variable: {_WAY_OUT}")
    name = argument.id
    if namespace_of(frame, name).get(name, _NOTHING) is not value:
        raise TypeError(f"the state {key!r} is not the variable {name!r} that the source has in its place: {_WAY_OUT}")
    return name


def namespace_of(frame: FrameType, name: str) -> Mapping[str, Any]:
    """Where `frame` finds the variable `name` now: its own variables and those around it, or the module's."""
    code = frame.f_code
    if name in code.co_varnames or name in code.co_cellvars or name in code.co_freevars or name in frame.f_locals:
        return frame.f_locals
    return frame.f_globals


_NOTHING = object()


def _is_in_package(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__")
    # The examples of docstrings run in copies of our modules' variables.
    return _is_ours(name) and frame.f_globals is getattr(sys.modules.get(name), "__dict__", None)


def _is_ours(module: object) -> TypeGuard[str]:
    return isinstance(module, str) and any(module == ours or module.startswith(f"{ours}.") for ours in _OURS)


def _is_extension(frame: FrameType) -> bool:
    """Whether this is the `update` of a subclass of ours, which hands on what it was given."""
    code = frame.f_code
    if code.co_name != "update" or code.co_argcount == 0:
        return False
    first = frame.f_locals.get(code.co_varnames[0])
    return any(base.__name__ in _EXTENDABLE and _is_ours(base.__module__) for base in type(first).__mro__)


def _value_argument(call: ast.Call) -> ast.expr | None:
    """The expression in the value's place; None where the source does not tell which one that is."""
    for keyword in call.keywords:
        if keyword.arg == "value":
            return keyword.value
    unknown = any(keyword.arg is None for keyword in call.keywords)
    unknown |= any(isinstance(argument, ast.Starred) for argument in call.args)
    return None if unknown or not call.args else call.args[-1]


def _only_name(frame: FrameType, value: object, key: str) -> str:
    names = {name for name, found in frame.f_locals.items() if found is value}
    if not names:
        names = {name for name, found in frame.f_globals.items() if found is value}
    if len(names) != 1:
        found = f"the variables {', '.join(sorted(names))} are all" if names else "no variable is"
        raise TypeError(
            f"the state {key!r} cannot be traced to a variable: there is no source, and {found} this object: {_WAY_OUT}"
        )
    return names.pop()
