"""Where snapshots live: a URL's scheme chooses the storage.

Paths without a scheme and ``fs://`` paths are local, all other URLs are those of object stores.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from sucrose.errors import ConfigError
from sucrose.storage.base import Directory
from sucrose.storage.joined import JoinedDirectory
from sucrose.storage.local import LocalDirectory, StagedDirectory, make_parents, sync_directories

__all__ = [
    "Directory",
    "JoinedDirectory",
    "LocalDirectory",
    "StagedDirectory",
    "is_url",
    "local_path",
    "location_of",
    "make_parents",
    "open_directory",
    "sync_directories",
]

_LOCAL_SCHEMES = ("fs", "file")
_BROKEN_URL = re.compile(r"(?:s3a?|gs|gcs|az|abfss?|hf|memory):/(?!/)")
"""What `pathlib` makes of a URL. It would be a folder on this machine's disk, and nobody notice."""


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether `path` means a place in an object store, and none on a file system of this machine."""
    scheme, separator, _ = os.fspath(path).partition("://")
    return bool(separator) and bool(scheme) and "/" not in scheme and scheme not in _LOCAL_SCHEMES


def local_path(path: str | os.PathLike[str]) -> str:
    """The file-system path that `path` means.

    Raises:
        ConfigError: it is a URL of an object store, or of nothing, or was one before a slash was lost.
    """
    path = os.fspath(path)
    scheme, separator, rest = path.partition("://")
    if not separator:
        if _BROKEN_URL.match(path):
            raise ConfigError(
                f"{path!r} has one slash behind {path.partition(':')[0]}: and would be a local folder. Give URLs as "
                "strings: pathlib.Path drops the other slash",
                path=path,
            )
        return path
    if scheme in _LOCAL_SCHEMES:
        return rest
    raise ConfigError(
        f"{path!r}: no storage for {scheme}:// in this place, which takes plain paths and fs:// only", path=path
    )


def location_of(path: str | os.PathLike[str]) -> str:
    """One spelling of a place: an absolute local path, or the URL without a slash at its end and without credentials.

    Raises:
        ConfigError: it is a URL of nothing, or was one before a slash was lost.
    """
    if not is_url(path):
        return os.path.abspath(local_path(path))
    scheme, _, rest = os.fspath(path).partition("://")
    host, slash, below = rest.rstrip("/").partition("/")
    user, _, host_alone = host.rpartition("@")
    if ":" in user:  # a user without a password may be the name of a container: abfs://container@account
        host = host_alone
    return f"{scheme}://{host}{slash}{below}"


def open_directory(path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> Directory:
    """The folder at a path or URL, for reading. Nothing is looked at yet.

    Args:
        path: plain, ``fs://…``, or any URL that `sucrose.storage.objects.open_storage` opens.
        storage_options: for object stores. Those that are opened again with equal options share a client.

    Raises:
        ConfigError: there is no storage for the URL, an option is not allowed, or a package is missing.
        ValueError: options for a local path.
    """
    if not is_url(path):
        if storage_options:
            raise ValueError(f"storage_options {sorted(storage_options)} are unknown: local storage has no options")
        return LocalDirectory(os.path.abspath(local_path(path)))
    from sucrose.storage.objects.directory import ObjectDirectory
    from sucrose.storage.objects.shared import shared_storage

    return ObjectDirectory(shared_storage(os.fspath(path), storage_options))
