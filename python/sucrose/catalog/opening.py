"""Which kind of place a catalog is in: its path or URL says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sucrose.storage import is_url, location_of

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from sucrose.catalog.directory import CatalogDirectory
    from sucrose.formats.signing_keys import Signer


def open_catalog_directory(
    root: str | os.PathLike[str], signer: Signer | None = None, storage_options: Mapping[str, Any] | None = None
) -> CatalogDirectory:
    """The folder of a catalog, which need not be there. Nothing is looked at yet.

    Args:
        root: plain path, ``fs://…``, or any URL that `sucrose.storage.objects.open_storage` opens.
        signer: checks whose the generations are; without one the keys of the environment count, if there are any.
        storage_options: for object stores.

    Raises:
        ConfigError: there is no storage for the URL, an option is not allowed, a package is missing, or a key of the
            environment is too short.
        ValueError: options for a local path.
    """
    if is_url(root):
        from sucrose.catalog.objects.directory import ObjectCatalogDirectory

        return ObjectCatalogDirectory(root, signer, storage_options)
    if storage_options:
        raise ValueError(f"storage_options {sorted(storage_options)} are unknown: local storage has no options")
    from sucrose.catalog.local.directory import LocalCatalogDirectory

    return LocalCatalogDirectory(location_of(root), signer)
