"""An upload to an object store: the order of its parts, what is known of them, and its end."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, final

from sucrose.errors import ObjectNotFoundError, StorageError, SucroseError
from sucrose.storage.objects.base import Bytes, PartLimits, Upload
from sucrose.storage.objects.options import StorageOptions
from sucrose.storage.objects.pieces import nbytes_of, pieces_of

if TYPE_CHECKING:
    from sucrose.storage.objects.object_storage import ObjectStorage

logger = logging.getLogger(__name__)


def choose_part_nbytes(nbytes: int | None, options: StorageOptions, limits: PartLimits) -> int:
    """The wished size of parts, changed as far as the store's limits and the file's size demand.

    Raises:
        ValueError: no parts that the store takes could hold so many bytes.
    """
    at_least = limits.min_nbytes if nbytes is None else max(limits.min_nbytes, -(-nbytes // limits.max_count))
    if at_least > limits.max_nbytes:
        raise ValueError(f"{nbytes} bytes are more than {limits.max_count} parts of {limits.max_nbytes} bytes hold")
    return min(max(options.part_nbytes, at_least), limits.max_nbytes)


@final
class ObjectUpload(Upload):
    """See `Upload`. Any thread may call anything."""

    def __init__(self, storage: ObjectStorage, key: str, nbytes: int | None) -> None:
        self.part_nbytes = choose_part_nbytes(nbytes, storage.options, storage.limits)
        self._storage = storage
        self._key = key
        self._tags: dict[int, str] = {}  # by number
        self._nbytes: dict[int, int] = {}
        self._turn = threading.Condition()
        self._on_their_way = 0
        self._is_over = False
        self._error: Exception | None = None  # of a part, after which ordered parts have no turn
        self._id = storage.call("beginning to upload", key, lambda _: storage.backend.begin(key))

    def write_part(self, number: int, data: Bytes | Sequence[Bytes]) -> None:
        pieces = pieces_of(data)
        self._take_turn(number)
        storage, backend = self._storage, self._storage.backend
        try:
            tag = storage.call(
                f"uploading part {number} of",
                self._key,
                lambda _: backend.put_part(self._key, self._id, number, pieces),
                repeatable=backend.are_parts_repeatable,
            )
        except Exception as error:
            with self._turn:
                self._error = self._error or error
            raise
        else:
            with self._turn:
                self._tags[number] = tag
                self._nbytes[number] = nbytes_of(pieces)
        finally:
            with self._turn:
                self._on_their_way -= 1
                self._turn.notify_all()

    def complete(self) -> None:
        with self._turn:
            numbers = sorted(self._tags)
            if self._is_over or self._on_their_way:
                raise ValueError(f"the upload of {self._storage.url_of(self._key)} is over, or parts are on their way")
            if numbers != list(range(1, len(numbers) + 1)):
                raise ValueError(f"parts are missing; there are {numbers}")
        if not numbers:  # stores want a part, at least
            self.abort()
            self._storage.call("writing", self._key, lambda _: self._storage.backend.put(self._key, memoryview(b"")))
            return
        tags = [self._tags[number] for number in numbers]
        self._storage.call("completing the upload of", self._key, lambda attempt: self._complete(tags, attempt))
        with self._turn:
            self._is_over = True

    def abort(self) -> None:
        with self._turn:
            if self._is_over:
                return
            self._is_over = True
            self._turn.notify_all()
            # One that arrives after the abort would stay.
            self._turn.wait_for(lambda: not self._on_their_way)
        try:
            self._storage.call(
                "aborting the upload of",
                self._key,
                lambda _: self._storage.backend.abort(self._key, self._id),
            )
        except ObjectNotFoundError:
            pass  # an earlier attempt has reached the store, or somebody else was faster
        except SucroseError as error:
            logger.warning("%s; what was sent takes space until abandoned uploads are aborted", error)

    def _take_turn(self, number: int) -> None:
        limits = self._storage.limits
        if not 1 <= number <= limits.max_count:
            raise StorageError(
                errno.EFBIG,
                f"part {number} of {self._storage.url_of(self._key)}: the store takes parts 1 to {limits.max_count}; "
                "raise 'part_nbytes' in storage_options",
                self._storage.url_of(self._key),
                path=self._storage.url_of(self._key),
            )
        with self._turn:
            self._turn.wait_for(lambda: self._is_over or self._error or self._is_next(number))
            if self._is_over or (self._error and limits.is_ordered):
                url = self._storage.url_of(self._key)
                raise StorageError(
                    errno.ECANCELED, f"part {number} of {url} was not sent: the upload is over", url, path=url
                )
            self._on_their_way += 1

    def _is_next(self, number: int) -> bool:
        if not self._storage.limits.is_ordered:
            return True
        return not self._on_their_way and number == len(self._tags) + 1

    def _complete(self, tags: list[str], attempt: int) -> None:
        try:
            self._storage.backend.complete(self._key, self._id, tags)
        except Exception:
            # The answer to an earlier attempt may have been lost, and the upload be no more as it is a file now.
            if attempt == 1 or not self._is_there():
                raise

    def _is_there(self) -> bool:
        try:
            return self._storage.backend.size(self._key) == sum(self._nbytes.values())
        except Exception:  # noqa: BLE001  # whatever it is, the caller raises what had failed
            return False
