"""Many snapshots of one program in a folder: which is the newest that is sound, and which may go.

Listing and collecting need no torch; `Catalog` itself, which saves and restores, is brought in when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sucrose.catalog.catalog import Catalog as Catalog


def __getattr__(name: str) -> Any:
    if name == "Catalog":
        from sucrose.catalog.catalog import Catalog

        return Catalog
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
