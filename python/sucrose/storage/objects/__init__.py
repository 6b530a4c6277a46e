"""Where snapshots live that are not on a file system of this machine: object stores, by URL.

`open_storage` gives a `Storage` for a URL; nothing here imports fsspec or a vendor's client before that.
"""

from __future__ import annotations

from sucrose.storage.objects.backend import Backend, ListedKey, Page, PendingUpload
from sucrose.storage.objects.base import AbandonedUpload, PartLimits, Storage, StoredFile, Upload
from sucrose.storage.objects.object_storage import ObjectStorage
from sucrose.storage.objects.options import StorageOptions
from sucrose.storage.objects.registry import ENTRY_POINT_GROUP, open_storage, register_storage

__all__ = [
    "ENTRY_POINT_GROUP",
    "AbandonedUpload",
    "Backend",
    "ListedKey",
    "ObjectStorage",
    "Page",
    "PartLimits",
    "PendingUpload",
    "Storage",
    "StorageOptions",
    "StoredFile",
    "Upload",
    "open_storage",
    "register_storage",
]
