"""Snapshots of two ranks, made of one that a single rank has taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forged_snapshots import forge

if TYPE_CHECKING:
    from pathlib import Path

_CONTAINERS = ("dict", "OrderedDict", "list")


def add_rank(folder: Path, own: tuple[str, ...]) -> None:
    """Gives a second rank all containers, and of the values those in `own`; it shares the others with the first.

    Args:
        folder: of the snapshot.
        own: logical paths of the values that are each rank's own.
    """

    def change(metadata: dict[str, Any], index: dict[str, Any]) -> None:
        manifest, second = metadata["manifest"], {}
        for path, entry in manifest.items():
            logical = path.partition("/")[2]
            if entry["type"] in _CONTAINERS or logical in own:
                second[f"1/{logical}"] = entry
            else:
                entry["replicated"] = True
        metadata["world_size"] = 2
        manifest.update(second)

    forge(folder, change)
