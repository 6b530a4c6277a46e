"""Names and patterns that a caller has written, and the names that there are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from functools import cache

from sucrose.config.suggestions import nearest
from sucrose.errors import ConfigError


def name_filter(patterns: Sequence[str] | None) -> Callable[[str], bool]:
    """Whether a name is asked for: it is one of `patterns`, or matches one as in a shell, where ``*`` passes ``/``.

    None asks for all.

    Example:
        >>> name_filter(["base/*"])("base/case1")
        True
    """
    if patterns is None:
        return lambda _: True
    exact = frozenset(patterns)

    @cache
    def is_wanted(name: str) -> bool:
        return name in exact or any(fnmatchcase(name, pattern) for pattern in patterns)

    return is_wanted


def check_all_found(kind: str, patterns: Iterable[str] | None, names: Collection[str], place: str) -> None:
    """Each pattern has to match something.

    Args:
        kind: what the names are of, for the message.
        patterns: as for `name_filter`.
        names: those that there are.
        place: where they were looked for.

    Raises:
        ConfigError: one matches nothing. Its `key` is that one, its `path` is `place`.
    """
    for pattern in patterns or ():
        if pattern not in names and not any(fnmatchcase(name, pattern) for name in names):
            near = nearest(pattern, names)
            known = ", ".join(map(repr, sorted(names)[:10])) + (", …" if len(names) > 10 else "")
            hint = f"did you mean {near!r}?" if near else f"there are {known}" if names else "there are none"
            raise ConfigError(f"{place} has no {kind} {pattern!r}; {hint}", path=place, key=pattern)
