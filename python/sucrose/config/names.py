"""Names of domains and scenarios, which are also folders below a workspace."""

from __future__ import annotations

from sucrose.errors import ConfigError

WORKSPACE = "workspace"
"""The domain of settings that hold for all scenarios; no scenario can have its name."""


def check_name(name: str, what: str = "a scenario's name", path: str | None = None) -> None:
    """Refuses names that would be no path below the workspace, or another one than they look like.

    Args:
        name: segments with ``/`` between them, such as ``"base/case1"``.
        what: what the name is of, for the message.
        path: the file that has it, for the error.

    Raises:
        ConfigError: which is a `ValueError`; the message says what is wrong with the name.

    Example:
        >>> check_name("base/case1")
        >>> check_name("/base")
        Traceback (most recent call last):
        sucrose.errors.ConfigError: a scenario's name is '/base': it begins with '/'; expected one like 'base/case1'
    """
    fault = _fault_of(name)
    if fault is not None:
        raise ConfigError(f"{what} is {name!r}: {fault}; expected one like 'base/case1'", path=path)


def check_scenario_name(name: str) -> None:
    """As `check_name`; and the name is not that of the domain of settings.

    Raises:
        ConfigError: which is a `ValueError`.
    """
    check_name(name)
    if chain(name)[-1] == WORKSPACE:
        raise ConfigError(
            f"a scenario's name is {name!r}: the domain {WORKSPACE!r} holds settings of the whole workspace; "
            "give the scenario another name"
        )


def chain(name: str) -> tuple[str, ...]:
    """The name and its parents, nearest first.

    Example:
        >>> chain("base/case1/fast")
        ('base/case1/fast', 'base/case1', 'base')
    """
    segments = name.split("/")
    return tuple("/".join(segments[:count]) for count in range(len(segments), 0, -1))


def _fault_of(name: object) -> str | None:
    if not isinstance(name, str):
        return f"it is of type {type(name).__name__}, not a string"
    if name.startswith("/"):
        return "it begins with '/'"
    if name.endswith("/"):
        return "it ends with '/'"
    if "\\" in name or not name.isprintable():
        return "it has a backslash or a character that cannot be printed"
    faults = (_fault_of_segment(segment) for segment in name.split("/"))
    return next((fault for fault in faults if fault is not None), None)


def _fault_of_segment(segment: str) -> str | None:
    if not segment:
        return "it is empty, or has an empty segment"
    if segment.startswith("."):
        return f"its segment {segment!r} begins with '.'"
    return f"its segment {segment!r} begins or ends with a space" if segment != segment.strip() else None
