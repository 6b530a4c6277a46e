"""In which state the folder of a generation is."""

from __future__ import annotations

from enum import Enum
from typing import final

from sucrose.catalog.names import QUARANTINED_METADATA, REMOVED_FILE, is_generation_name
from sucrose.formats.manifest import METADATA_FILE
from sucrose.storage.objects import Storage


@final
class FolderState(Enum):
    """What the names of the files in it say."""

    COMMITTED = "committed"
    UNFINISHED = "unfinished"
    """It is being uploaded, or was when its writer died."""
    REMOVED = "removed"
    """It was a generation, and a collection has taken its commit record away."""
    QUARANTINED = "quarantined"
    GONE = "gone"
    """Nothing is left of it."""


def folder_names(storage: Storage) -> list[str]:
    """Names that may be generations', however many."""
    return [name for name in storage.folders() if is_generation_name(name)]


def state_of(storage: Storage, name: str) -> FolderState:
    """The state of one folder, by one request where it is committed, and by two or three where it is not."""
    if storage.exists(f"{name}/{METADATA_FILE}"):
        return FolderState.COMMITTED
    hidden = {file.name.removeprefix(f"{name}/") for file in storage.list(f"{name}/.")}
    if METADATA_FILE in hidden:  # since a moment ago
        return FolderState.COMMITTED
    if QUARANTINED_METADATA in hidden:
        return FolderState.QUARANTINED
    if REMOVED_FILE in hidden:
        return FolderState.REMOVED
    is_there = hidden or next(storage.list(f"{name}/"), None) is not None
    return FolderState.UNFINISHED if is_there else FolderState.GONE
