"""The folder that a command is about."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from sucrose.catalog.opening import open_catalog_directory
from sucrose.errors import ObjectNotFoundError
from sucrose.storage import is_url, location_of

if TYPE_CHECKING:
    from sucrose.catalog.directory import CatalogDirectory


def open_catalog(root: str) -> CatalogDirectory:
    """The catalog at `root`.

    Args:
        root: as for `Catalog`.

    Raises:
        ConfigError: there is no storage for the URL.
        OSError: there is no such folder. A catalog need not exist, but whoever asks about one has made an error then.
    """
    if is_url(root):
        _check_is_there(root)
        return open_catalog_directory(root)
    path = location_of(root)
    if not os.path.lexists(path):
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", path)
    if not os.path.isdir(path):
        raise NotADirectoryError(errno.ENOTDIR, "a catalog is a folder", path)
    return open_catalog_directory(path)


def _check_is_there(url: str) -> None:
    """In object stores a folder is there where a file is in it."""
    from sucrose.storage.objects.shared import shared_storage

    storage = shared_storage(url)
    if next(storage.list(), None) is None:
        raise ObjectNotFoundError(errno.ENOENT, "there is nothing below this URL", storage.url, path=storage.url)
