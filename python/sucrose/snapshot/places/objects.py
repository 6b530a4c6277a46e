"""The place of a take in an object store: files below the target, under names that only this take has."""

from __future__ import annotations

import logging
import os
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from sucrose.formats.index import DIGEST_NAME
from sucrose.snapshot.places.place import Place
from sucrose.snapshot.remote.names import tagged_folders
from sucrose.snapshot.remote.small_files import SmallFiles
from sucrose.snapshot.remote.upload_threads import UploadThreads
from sucrose.snapshot.remote.uploading import UploadTicket

if TYPE_CHECKING:
    from sucrose.engine import Encoding, Engine, Extents, Staging
    from sucrose.storage.leases import Lease
    from sucrose.storage.objects import Storage, StorageOptions

logger = logging.getLogger(__name__)

_ORDERED_AT_ONCE = 2
"""Buffers for stores that take parts one after another: one is filled while the other is sent."""


class ObjectsPlace(Place):
    """Uploads under way, and the names of what this rank has put.

    Args:
        storage: the files below the target.
        options: of it.
        tag: of this take, in the names of its files.
        engine: reads the sources.
        is_shared: whether other ranks put files there, too.
        alive: called now and then by who waits; may raise.
    """

    def __init__(
        self,
        storage: Storage,
        options: StorageOptions,
        tag: str,
        engine: Engine,
        *,
        is_shared: bool,
        alive: Callable[[], object],
    ) -> None:
        self.target = storage.url
        self._storage = storage
        self._options = options
        self._tag = tag
        self._engine = engine
        self._is_shared = is_shared
        self._small_nbytes = 0
        self._names: list[str] = []
        """Of what is there, or may be."""
        self._tickets: deque[UploadTicket] = deque()
        at_once = _ORDERED_AT_ONCE if storage.limits.is_ordered else storage.concurrency
        self.threads = UploadThreads(1 if storage.limits.is_ordered else at_once, buffers=at_once)
        self._small_files = SmallFiles(storage, self.threads, at_once, alive)
        # Not __del__: that would run after each success, too, and Ctrl-C in it is lost.
        self._giving_up = weakref.finalize(self, _give_up, os.getpid(), self._tickets, self.threads)
        self._giving_up.atexit = False

    @property
    def small_nbytes(self) -> int:
        return self._small_nbytes

    def begin_write(
        self,
        name: str,
        sources: Extents,
        *,
        staging: Staging | None,
        encoding: Encoding | None,
        digest_kind: str = DIGEST_NAME,
    ) -> UploadTicket:
        self._names.append(name)
        begin = partial(
            self._engine.write_relayed,
            f"{self.target}/{name}",
            sources,
            staging=staging,
            encoding=encoding,
            digest_kind=digest_kind,
        )
        return UploadTicket(
            begin,
            self._storage,
            name,
            nbytes=sum(sources.nbytes),
            put_nbytes=min(self._options.part_nbytes, self._storage.limits.max_nbytes),
            is_encoded=encoding is not None,
            is_staged=staging is not None,
            threads=self.threads,
            known=self._tickets,
        )

    def write(self, name: str, data: bytes) -> None:
        self._small_nbytes += len(data)
        self._names.append(name)
        self._small_files.put(name, data)

    def finish(self) -> None:
        self._small_files.wait()
        self.threads.close()

    def hold(self, bases: Iterable[Lease]) -> None:
        for base in bases:  # takes to object stores refer to nothing
            base.release()

    def _end_all(self) -> None:
        """Returns when nothing of this rank's is under way any more."""
        for ticket in self._tickets:
            ticket.give_up()
        self._small_files.give_up()
        self.threads.close()
        self._giving_up.detach()

    def _names_of_all(self) -> list[str]:
        """What all ranks have put so far, as far as the store tells."""
        try:
            return [found.name for folder in tagged_folders(self._tag) for found in self._storage.list(folder)]
        except Exception as error:  # noqa: BLE001 - see _delete
            logger.warning("what a take to %s has left could not be listed: %s", self.target, error)
            return []

    def _delete(self, names: Iterable[str]) -> None:
        try:
            self._storage.delete(names)
        except FileNotFoundError:
            pass  # there is no such bucket, which is what the error says that led here
        except Exception as error:  # noqa: BLE001 - whoever discards has an error to tell already
            logger.warning("what a take to %s has left could not be removed: %s", self.target, error)


def _give_up(process: int, tickets: deque[UploadTicket], threads: UploadThreads) -> None:
    if os.getpid() != process:
        return  # a forked child has no part in it
    for ticket in tickets:
        ticket.cancel()
    threads.close()
