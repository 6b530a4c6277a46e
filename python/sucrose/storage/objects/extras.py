"""Importing the client of a store, or saying how to get it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from sucrose.errors import MissingExtraError


def import_client(module: str, url: str, extra: str) -> Any:
    """The module.

    Args:
        module: its name.
        url: what it is needed for.
        extra: of this package, that brings it.

    Raises:
        MissingExtraError: it, or something that it needs, is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        missing = error.name or module
        raise MissingExtraError(
            f"{url.partition('://')[0]}:// needs {module}, which cannot be imported: {missing} is not "
            f"installed, or not as expected ({error}). Install it with: pip install 'torch-sucrose[{extra}]'",
            path=url,
            extra=extra,
        ) from error
