"""Whether it is a whole bucket that is missing, where something in it is: that is another mistake."""

from __future__ import annotations

from sucrose.errors import ObjectNotFoundError, StorageError
from sucrose.storage.objects.base import Storage
from sucrose.storage.objects.names import split_url

_NOUNS = {
    "s3": "bucket",
    "s3a": "bucket",
    "gs": "bucket",
    "gcs": "bucket",
    "az": "container",
    "abfs": "container",
    "abfss": "container",
}
"""By scheme, of stores in which only a listing of what does not exist fails."""


def why_missing(storage: Storage) -> str:
    """``there is no bucket 'name'…`` where that is so; empty where it is there, or nobody can tell. One request.

    Args:
        storage: in which something is missing.
    """
    if storage.url.partition("://")[0] not in _NOUNS:
        return ""
    try:
        next(iter(storage.list()), None)
    except ObjectNotFoundError:
        return no_such_bucket(storage.url)
    except StorageError:  # who may read objects need not be allowed to list them
        return ""
    return ""


def no_such_bucket(url: str) -> str:
    """The same, where the store was asked already; empty where listings may fail for want of a folder."""
    noun = _NOUNS.get(url.partition("://")[0])
    if noun is None:
        return ""
    name = split_url(url)[1].partition("@")[0]
    return f"there is no {noun} {name!r} in this store: see whether its name and the storage's endpoint are right"
