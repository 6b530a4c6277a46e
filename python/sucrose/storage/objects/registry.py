"""Which storage serves a URL, by its scheme.

Other packages add schemes by an entry point in the group ``sucrose.storage``, whose name is the scheme and whose
object is a function like `open_url` of `memory.py`. Theirs go before the ones that come with this package.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeAlias

from sucrose.errors import ConfigError
from sucrose.storage.objects.base import Storage
from sucrose.storage.objects.options import StorageOptions

ENTRY_POINT_GROUP = "sucrose.storage"

Opener: TypeAlias = Callable[[str, StorageOptions], Storage]

# Modules with `open_url`, imported when such a URL is opened: they import the vendors' clients.
_OURS = {
    "memory": "memory",
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
    "hf": "hub",
}
_registered: dict[str, Opener] = {}
_lock = threading.Lock()


def open_storage(url: str, storage_options: Mapping[str, Any] | None = None) -> Storage:
    """The storage below a URL. Nothing is sent yet.

    Args:
        url: ``scheme://…``.
        storage_options: see `StorageOptions`.

    Raises:
        ConfigError: no storage is known for the scheme, or an option has a value that is not allowed.
        MissingExtraError: the client for the scheme is not installed.

    Example:
        >>> from sucrose.storage.objects import open_storage
        >>> with open_storage("memory://example/run") as storage:
        ...     storage.put("step_1/a", b"abc")
        ...     storage.read("step_1/a")
        b'abc'
    """
    scheme, separator, rest = url.partition("://")
    if not separator or not scheme:
        raise ConfigError(f"{url!r} is no URL: expected a scheme, such as s3://, before it", path=url)
    user, at, _ = rest.partition("/")[0].rpartition("@")
    if ":" in user or (at and scheme in _OURS and not scheme.startswith("abfs") and scheme != "hf"):
        raise ConfigError(f"{scheme}://… has credentials in it: give them in storage_options or the environment")
    return _opener(scheme)(url.rstrip("/"), StorageOptions.parse(storage_options))


def register_storage(scheme: str, opener: Opener) -> None:
    """Serves a scheme in this process; the last registration counts.

    Args:
        scheme: without ``://``.
        opener: gets the URL, without a slash at its end, and the options; sends nothing yet.
    """
    with _lock:
        _registered[scheme] = opener


def registered_opener(scheme: str) -> Opener | None:
    """What `register_storage` was given for a scheme."""
    with _lock:
        return _registered.get(scheme)


def _opener(scheme: str) -> Opener:
    with _lock:
        if scheme in _registered:
            return _registered[scheme]
    points = [point for point in entry_points(group=ENTRY_POINT_GROUP) if point.name == scheme]
    if points:
        return _load(points[0])
    module = import_module(f"sucrose.storage.objects.{_OURS.get(scheme, 'generic')}")
    opener: Opener = module.open_url
    return opener


def _load(point: EntryPoint) -> Opener:
    try:
        opener = point.load()
    except Exception as error:
        raise ConfigError(
            f"the storage for {point.name}:// cannot be loaded: {point.value}: {type(error).__name__}: {error}. Update "
            "or remove the package that brings it"
        ) from error
    if not callable(opener):
        raise ConfigError(f"the storage for {point.name}:// is no function: {point.value}")
    return opener  # type: ignore[no-any-return]  # what it returns is the other package's affair
