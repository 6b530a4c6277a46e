"""What a kind of object store has to do for `ObjectStorage`: single requests, by key, each tried once.

Names, retries, time-outs of a whole call, errors with a message, the order of parts and the number of requests at a
time are the business of `ObjectStorage`. A backend raises whatever its client raises; `failures` makes sense of it.
"""

from __future__ import annotations

import datetime
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sucrose.storage.objects.base import PartLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedKey:
    """An object in a `Page`."""

    key: str
    nbytes: int
    modified: datetime.datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One answer to a listing.

    Attributes:
        objects: in any order.
        folders: common beginnings of keys, with the ``/`` at their ends, where folders were asked for.
        next_token: hands the next page out; None after the last.
    """

    objects: Sequence[ListedKey] = field(default=())
    folders: Sequence[str] = field(default=())
    next_token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingUpload:
    """An upload that was begun and not finished."""

    key: str
    upload_id: str
    begun: datetime.datetime | None = None


class Backend(ABC):
    """Requests to a store. Every method may be called from several threads at once, and none tries again.

    A call that returns or raises touches its buffers no more.
    """

    limits: PartLimits = PartLimits()
    is_read_only: bool = False
    are_parts_repeatable: bool = True
    """Whether a part that failed may be sent again."""

    @abstractmethod
    def fetch(self, key: str, max_nbytes: int | None) -> bytes:
        """An object's bytes, at most `max_nbytes` + 1 of them: one more tells that there are more."""

    @abstractmethod
    def fetch_into(self, key: str, offset: int, into: memoryview) -> int:
        """Reads into memory that is not empty; returns how many bytes there were, fewer only at the object's end."""

    @abstractmethod
    def size(self, key: str) -> int:
        """Bytes in an object."""

    @abstractmethod
    def page(self, prefix: str, token: str | None, *, by_folder: bool) -> Page:
        """Objects whose keys begin with `prefix`; with `by_folder` those with another ``/`` come as folders."""

    @abstractmethod
    def put(self, key: str, data: memoryview, *, if_absent: bool = False) -> None:
        """Writes an object at once, whole or not at all.

        With `if_absent` an object that is there stays and is a FileExistsError, decided by the store in the same
        instant; a store that cannot do that writes.
        """

    @abstractmethod
    def begin(self, key: str) -> str:
        """Begins an upload and returns the name of it."""

    @abstractmethod
    def put_part(self, key: str, upload_id: str, number: int, data: Sequence[memoryview]) -> str:
        """Sends a part; returns what `complete` needs to know of it."""

    @abstractmethod
    def complete(self, key: str, upload_id: str, tags: Sequence[str]) -> None:
        """Makes the object of one or more parts, given by what `put_part` has returned, in order."""

    @abstractmethod
    def abort(self, key: str, upload_id: str) -> None:
        """Frees an upload's parts."""

    @abstractmethod
    def pending(self, prefix: str) -> Iterator[PendingUpload]:
        """Uploads to keys with that prefix which are neither completed nor aborted."""

    @abstractmethod
    def delete(self, keys: Sequence[str]) -> None:
        """Removes up to 1,000 objects; no error for those that are not there."""

    @abstractmethod
    def close(self) -> None:
        """Gives connections back."""
