"""How long the files of a snapshot are, without a question about each of them."""

from __future__ import annotations

import logging
from typing import final

from sucrose.errors import StorageError
from sucrose.storage import Directory
from sucrose.storage.objects import Storage
from sucrose.storage.objects.directory import ObjectDirectory

logger = logging.getLogger(__name__)

_OF_TAKES = ("data", "objects")
"""Folders in which every take has one of its own."""


@final
class Sizes:
    """Sizes of the files of a directory, as they are when the first of a folder is asked for. For one operation.

    On a file system each file is looked at when it is asked for. Not thread-safe.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._listed: dict[tuple[str, str], dict[str, int]] = {}  # by the storage's URL and the folder

    def of(self, name: str) -> int:
        """That of one file; raises what `Directory.size` raises."""
        if not isinstance(self._directory, ObjectDirectory):
            return self._directory.size(name)
        storage, there = self._directory.place_of(name)
        folder = _folder_of(there)
        if not folder:
            return storage.size(there)
        place = storage.url, folder
        if place not in self._listed:
            self._listed[place] = _listed(storage, folder)
        found = self._listed[place].get(there)
        return storage.size(there) if found is None else found


def _folder_of(name: str) -> str:
    segments = name.split("/")[:-1]
    return "/".join(segments[: 2 if segments[:1] and segments[0] in _OF_TAKES else 1])


def _listed(storage: Storage, folder: str) -> dict[str, int]:
    try:
        return {file.name: file.nbytes for file in storage.list(f"{folder}/")}
    except StorageError as error:  # whoever may read may not always list: each file is asked for then
        logger.info("%s cannot be listed: %s", storage.url, error)
        return {}
