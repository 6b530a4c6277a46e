"""Options that the client of a store does not take: named, with what may have been meant.

Only the client knows for sure which ones it takes: some hand theirs on to others. So none is refused before the client
has refused it, which s3fs does when it makes its session, before its first request.
"""

from __future__ import annotations

import difflib
import inspect
import logging
import re
from collections.abc import Mapping
from dataclasses import fields

from sucrose.errors import ConfigError
from sucrose.storage.objects.options import StorageOptions

logger = logging.getLogger(__name__)

_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")
_SIMILARITY = 0.7


def unknown_option(error: Exception, options: StorageOptions, client: type) -> ConfigError | None:
    """The error of ours where a client says that it does not take an option; None for any other of its errors.

    Args:
        error: the client's.
        options: what it was given.
        client: its class of file systems.
    """
    found = _UNEXPECTED.search(str(error))
    name = "" if found is None else found[1]
    if name in options.client:
        return ConfigError(f"{_unknown(name, client)}{_near_matches(name, client)}", key=name)
    for outer, inner in options.client.items():
        if isinstance(inner, Mapping) and name in inner:
            return ConfigError(f"storage_options: {outer} has {name!r}, which is not taken there: {error}", key=name)
    return None


def warn_of_ignored_options(options: StorageOptions, client: type) -> None:
    """Logs the names that are nearly those of ours, and that a client ignores which ignores what it does not know."""
    known = _parameters(client)
    for name in options.client:
        if name not in known and difflib.get_close_matches(name, _own_names(), cutoff=_SIMILARITY):
            logger.warning("%s, and ignores it%s", _unknown(name, client), _near_matches(name, client))


def _unknown(name: str, client: type) -> str:
    return f"storage_options: {name!r} is no option of this package, and {client.__name__} does not know it"


def _near_matches(name: str, client: type) -> str:
    known = [*_own_names(), *sorted(_parameters(client))]
    near = difflib.get_close_matches(name, dict.fromkeys(known), n=3, cutoff=_SIMILARITY)
    if not near:
        return f"; it knows {', '.join(sorted(_parameters(client)))}"
    return f"; near matches: {', '.join(map(repr, near))}"


def _own_names() -> list[str]:
    return [option.name for option in fields(StorageOptions)]


def _parameters(client: type) -> set[str]:
    """Of its constructor and of those that this hands what it does not know to."""
    names: set[str] = set()
    for kind in inspect.getmro(client):
        if "__init__" in vars(kind) and kind is not object:
            parameters = inspect.signature(vars(kind)["__init__"]).parameters.values()
            names.update(one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY))
    return names - {"self"}
