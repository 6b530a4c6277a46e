"""Where snapshots live: a URL's scheme chooses the storage.

Paths without a scheme and ``fs://`` paths are local.
"""

from __future__ import annotations

import os

from sucrose.errors import ConfigError
from sucrose.storage.joined import JoinedDirectory
from sucrose.storage.local import LocalDirectory, StagedDirectory, make_parents, sync_directories

__all__ = ["JoinedDirectory", "LocalDirectory", "StagedDirectory", "local_path", "make_parents", "sync_directories"]


def local_path(url: str | os.PathLike[str]) -> str:
    """The file-system path that `url` means.

    Raises:
        ConfigError: a scheme that no storage is registered for.
    """
    path = os.fspath(url)
    scheme, separator, rest = path.partition("://")
    if not separator:
        return path
    if scheme in ("fs", "file"):
        return rest
    raise ConfigError(f"{path!r}: no storage for {scheme}://, known are fs:// and plain paths", path=path)
