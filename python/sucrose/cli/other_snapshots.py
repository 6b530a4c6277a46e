"""Snapshots in a folder that no catalog has written."""

from __future__ import annotations

import os

from sucrose.formats.generation import GENERATION_FILE
from sucrose.formats.manifest import METADATA_FILE
from sucrose.storage import is_url


def count_other_snapshots(root: str, generations: set[str]) -> int:
    """How many there are: the folder itself, and those right in it.

    Args:
        root: the folder, or its URL.
        generations: names in it that are known to be a catalog's, whatever is left of them.

    Raises:
        OSError: the folder cannot be read.
    """
    if is_url(root):
        return _count_at_url(root, generations)
    with os.scandir(root) as entries:
        paths = [
            entry.path
            for entry in entries
            # Hidden directories are those of writers that are not done, or never will be.
            if not entry.name.startswith(".") and entry.name not in generations and entry.is_dir(follow_symlinks=False)
        ]
    return sum(_is_other_snapshot(path) for path in [root, *paths])


def is_snapshot(root: str) -> bool:
    """Whether the folder, or what is below the URL, is a snapshot itself, whoever wrote it."""
    if not is_url(root):
        return os.path.isfile(os.path.join(root, METADATA_FILE))
    from sucrose.storage.objects.shared import shared_storage

    return shared_storage(root).exists(METADATA_FILE)


def _is_other_snapshot(path: str) -> bool:
    is_a_catalogs = os.path.lexists(os.path.join(path, GENERATION_FILE))
    return os.path.isfile(os.path.join(path, METADATA_FILE)) and not is_a_catalogs


def _count_at_url(url: str, generations: set[str]) -> int:
    from sucrose.snapshot.remote.side_by_side import side_by_side
    from sucrose.storage.objects.shared import shared_storage

    storage = shared_storage(url)

    def is_other_snapshot(prefix: str) -> bool:
        return storage.exists(prefix + METADATA_FILE) and not storage.exists(prefix + GENERATION_FILE)

    names = [name for name in storage.folders() if not name.startswith(".") and name not in generations]
    return sum(side_by_side(is_other_snapshot, ["", *(f"{name}/" for name in names)], 16))
