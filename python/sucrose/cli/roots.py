"""The folder that a command is about."""

from __future__ import annotations

import errno
import os

from sucrose.catalog.directory import CatalogDirectory
from sucrose.storage import local_path


def open_catalog(root: str) -> CatalogDirectory:
    """The catalog at `root`.

    Args:
        root: as for `Catalog`.

    Raises:
        ConfigError: there is no storage for the URL.
        OSError: there is no such folder. A catalog need not exist, but whoever asks about one has made an error then.
    """
    path = os.path.abspath(local_path(root))
    if not os.path.lexists(path):
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", path)
    if not os.path.isdir(path):
        raise NotADirectoryError(errno.ENOTDIR, "a catalog is a folder", path)
    return CatalogDirectory(path)
