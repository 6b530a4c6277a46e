"""What reading and writing a snapshot needs of the place where its files are.

1. Names are those of files below one URL, with ``/`` between segments.
2. A file is there as a whole or not at all: what `put` or `Upload.complete` has not finished shows to no reader.
3. There is no rename. Whoever writes several files that belong together puts one of them last, and readers begin with
   that one.
4. Calls come from several threads at once. Each returns, or raises, only when nothing touches its buffers any more,
   and keeps no view of them, not even in the frames of an error that it has got over.
"""

from __future__ import annotations

import datetime
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sucrose.errors import UnsupportedError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

Bytes: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class PartLimits:
    """What a store demands of the parts of an upload.

    Attributes:
        min_nbytes: of each part but the last.
        max_nbytes: of each part.
        max_count: parts of one upload.
        is_ordered: parts are written one after another, so that sending several at once gains nothing.
    """

    min_nbytes: int = 1
    max_nbytes: int = 5 << 30
    max_count: int = 10_000
    is_ordered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file of a listing.

    Attributes:
        name: below the storage that was listed.
        nbytes: its size.
        modified: when it was written; None where the store does not tell.
    """

    name: str
    nbytes: int
    modified: datetime.datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AbandonedUpload:
    """An upload that was begun and neither completed nor aborted.

    Attributes:
        name: of the file that it would have become.
        upload_id: the store's name of the upload.
        begun: when; None where the store does not tell.
    """

    name: str
    upload_id: str
    begun: datetime.datetime | None


class Upload(ABC):
    """A file on its way. Nothing of it shows until `complete`.

    `write_part` may be called from several threads at once. As a context manager it is aborted at the end of the
    block, unless it was completed.

    Attributes:
        part_nbytes: a size for the parts that keeps within the store's limits.
    """

    part_nbytes: int

    @abstractmethod
    def write_part(self, number: int, data: Bytes | Sequence[Bytes]) -> None:
        """Sends one part.

        Args:
            number: 1 for the first part; they come without holes, in any order. Where parts are ordered
                (`PartLimits.is_ordered`) this waits until those before are written, so whoever sends from several
                threads gives out the numbers in order.
            data: its bytes, or pieces of them one after another; not needed any more once this returns.

        Raises:
            StorageError: it could not be sent.
        """

    @abstractmethod
    def complete(self) -> None:
        """Makes the file of the parts; it shows now, and a file that had its name is gone.

        Raises:
            ValueError: a part is missing.
            StorageError: the file is not there. `abort` what is left.
        """

    @abstractmethod
    def abort(self) -> None:
        """Frees what was sent. Waits for parts that are on their way; never raises an error of the store."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.abort()


class Storage(ABC):
    """Files below one URL.

    Attributes:
        url: without a slash at its end and without credentials.
        limits: of the parts of uploads.
        is_read_only: whether every call that would write raises `ReadOnlyStorageError`.
        concurrency: requests that it makes at a time; more threads would wait for one another.
    """

    url: str
    limits: PartLimits
    is_read_only: bool
    concurrency: int = 16

    @abstractmethod
    def within(self, folder: str) -> Storage:
        """The files below a folder of this one; shares its connections, and is closed with it."""

    def beside(self, folder: str) -> Storage:
        """The files below another folder of the same bucket; shares this one's connections, and is closed with it.

        Args:
            folder: from this one: ``../step_100``.

        Raises:
            CorruptionError: it leads out of the bucket.
            UnsupportedError: this kind of storage sees nothing but its own folder.
        """
        raise UnsupportedError(f"{self.url}: this storage does not reach {folder!r}", path=self.url)

    @abstractmethod
    def read(self, name: str, max_nbytes: int | None = None) -> bytes:
        """All bytes of a small file.

        Raises:
            CorruptionError: it is longer than `max_nbytes`, or the name leads out of this storage.
            ObjectNotFoundError: there is no such file. It is a `FileNotFoundError`.
            StorageError: it cannot be read.
        """

    @abstractmethod
    def read_into(self, name: str, offset: int, into: memoryview) -> None:
        """Fills memory with bytes of a file.

        Raises:
            CorruptionError: it is too short.
            ObjectNotFoundError: there is no such file.
            StorageError: it cannot be read. What is in the memory by then is unspecified.
        """

    def read_part(self, name: str, offset: int, nbytes: int) -> bytes:
        """Some bytes of a file; raises what `read_into` raises."""
        part = bytearray(nbytes)
        with memoryview(part) as into:
            self.read_into(name, offset, into)
        return bytes(part)

    @abstractmethod
    def size(self, name: str) -> int:
        """Bytes in a file.

        Raises:
            ObjectNotFoundError: there is no such file.
            StorageError: the store does not say.
        """

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether there is such a file. What may not be looked at is an error, not False."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[StoredFile]:
        """All files whose names begin with `prefix`, however many, in the store's order; asked for page by page."""

    @abstractmethod
    def folders(self, folder: str = "") -> Iterator[str]:
        """Names of the folders that lie directly in `folder` and hold a file, without those in them."""

    @abstractmethod
    def put(self, name: str, data: Bytes, *, if_absent: bool = False) -> None:
        """Writes a file; one of that name is replaced, unless it is to be written only where there is none.

        Args:
            name: of the file.
            data: its bytes.
            if_absent: whether a file of that name is an error, and stays. Of several writers at once one succeeds,
                where the store can decide that (S3, Google, Azure, memory); others are looked at first.

        Raises:
            ObjectExistsError: there is one. It is a `FileExistsError`.
            StorageError: it could not be written.
        """

    @abstractmethod
    def upload(self, name: str, nbytes: int | None = None) -> Upload:
        """Begins to write a large file in parts.

        Args:
            name: of the file.
            nbytes: its size, where that is known; chooses `Upload.part_nbytes`.

        Raises:
            StorageError: the store refuses.
        """

    @abstractmethod
    def delete(self, names: Iterable[str]) -> None:
        """Removes files; those that are not there are no error.

        Raises:
            StorageError: one of them could not be removed; others may be gone.
        """

    @abstractmethod
    def abandoned_uploads(self, older_than_s: float) -> Iterator[AbandonedUpload]:
        """Uploads below this storage that were begun at least so many seconds ago and never finished.

        They take space, and are paid for, until they are aborted. One that is still on its way cannot be told from
        one whose writer is dead, but by its age.
        """

    @abstractmethod
    def abort_abandoned(self, older_than_s: float) -> int:
        """Aborts those; returns how many there were."""

    @abstractmethod
    def close(self) -> None:
        """Gives connections back; the storage and those from `within` cannot be used any more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
