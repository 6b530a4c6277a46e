"""Small files of a take: put side by side, as their contents come."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from sucrose.storage.objects.gate import Gate
from sucrose.storage.objects.giving_up import given_up_on

if TYPE_CHECKING:
    from sucrose.snapshot.remote.upload_threads import UploadThreads
    from sucrose.storage.objects import Storage

_LOOK_UP_S = 0.5


class SmallFiles:
    """Belongs to one thread at a time.

    Args:
        storage: where they are put.
        threads: which put them.
        at_once: how many are on their way at one time; whoever has more waits.
        alive: called now and then by who waits; may raise.
    """

    def __init__(self, storage: Storage, threads: UploadThreads, at_once: int, alive: Callable[[], object]) -> None:
        self._storage = storage
        self._threads = threads
        self._at_once = at_once
        self._alive = alive
        self._unwanted = threading.Event()
        self._begun: deque[_SmallFile] = deque()  # the oldest first
        self._taken_up: deque[_SmallFile] = deque()  # by threads

    def put(self, name: str, data: bytes) -> None:
        """Begins to; `wait` tells whether that went well.

        Raises:
            StorageError: an earlier one could not be put.
        """
        while len(self._begun) >= self._at_once:
            self._wait_for_oldest()
        file = _SmallFile(name, data)
        self._begun.append(file)
        self._threads.send(lambda: self._put(file))

    def wait(self) -> None:
        """Returns when all are there.

        Raises:
            StorageError: one could not be put.
        """
        while self._begun:
            self._wait_for_oldest()

    def give_up(self) -> None:
        """Returns when nothing is on its way any more; also where Ctrl-C came before a thread was told of a file."""
        self._unwanted.set()
        for file in self._taken_up.copy():
            file.ended.wait()

    def _wait_for_oldest(self) -> None:
        file = self._begun[0]
        while not file.ended.wait(_LOOK_UP_S):
            self._alive()
        self._begun.popleft()
        if file.error is not None:
            raise file.error

    def _put(self, file: _SmallFile) -> None:
        self._taken_up.append(file)
        try:
            if not self._unwanted.is_set():
                with given_up_on(self._unwanted):
                    self._storage.put(file.name, file.data)
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            file.error = error
        finally:
            file.data = b""
            self._taken_up.remove(file)
            file.ended.open()


class _SmallFile:
    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self.data = data
        self.ended = Gate()
        self.error: Exception | None = None
