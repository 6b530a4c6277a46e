"""Event files: each event is written when it is logged, by one system call.

So nothing is lost when the program ends, however it ends, there is no thread that a forked child would lack, and the
size of the file is always at the border of a record.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
from contextlib import suppress
from itertools import count

from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]  # it has no types
from torch.utils.tensorboard import RecordWriter

from sucrose.scenarios.tensorboard.beginning import Beginning, copy_extent

logger = logging.getLogger(__name__)

OPENING = ".opening."
"""Begins the name of a file until all of its beginning is in it."""

_NAME = re.compile(r"events\.out\.tfevents\.(\d+)\.")
_numbers = count()


class EventFile:
    """A new event file of one folder. Thread-safe, and usable in signal handlers.

    Args:
        folder: where; it is made where it is missing.
        logdir: what `get_logdir` returns.
        suffix: ends its name.
        beginning: what it begins with.
    """

    def __init__(self, folder: str, logdir: str, suffix: str, beginning: Beginning) -> None:
        os.makedirs(folder, exist_ok=True)
        name = _new_name(folder) + suffix
        opening = os.path.join(folder, OPENING + name.replace("tfevents", "events"))
        self.path = os.path.join(folder, name)
        self._logdir = logdir
        self._lock = threading.RLock()
        self._synced_nbytes: int | None = None
        self._fd = os.open(opening, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o666)
        self._records = RecordWriter(self)
        for event in beginning.events():
            self.add_event(event)
        for extent in beginning.told_again:
            copy_extent(extent, self._fd)
        os.rename(opening, self.path)

    def get_logdir(self) -> str:
        """The folder, as the program calls it."""
        return self._logdir

    def add_event(self, event: Event) -> None:
        """Appends an event; it is in the file when this returns.

        Raises:
            OSError: there is no room, or the like; the file is as before.
            ValueError: the file is closed.
        """
        self._records.write(event.SerializeToString())

    def write(self, record: bytes) -> None:
        """Appends a whole record: what a `RecordWriter` calls."""
        with self._lock:
            if self._fd < 0:
                raise ValueError(f"{self.path} is closed")
            n_written = 0
            try:
                while n_written < len(record):
                    n_written += os.write(self._fd, record[n_written:])
            except OSError:
                if n_written:  # half a record would hide all later ones from TensorBoard
                    os.ftruncate(self._fd, os.fstat(self._fd).st_size - n_written)
                raise

    def flush(self) -> None:
        """Does nothing: all is in the file."""

    def sync(self) -> None:
        """Has the file and its name survive a power cut."""
        with self._lock:
            if self._fd < 0:
                return
            nbytes = os.fstat(self._fd).st_size
            if nbytes == self._synced_nbytes:
                return
            os.fdatasync(self._fd)
            if self._synced_nbytes is None:
                folder = os.open(os.path.dirname(self.path), os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
            self._synced_nbytes = nbytes

    def close(self) -> None:
        """Ends the file; again is harmless."""
        with self._lock:
            self.abandon()

    def abandon(self) -> None:
        """As `close`, in a forked child, where the lock may be held by a thread that is not there."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        with suppress(AttributeError, OSError):  # an object that was never made to the end
            self.abandon()


class NoFile:
    """Accepts events, and writes them nowhere.

    Args:
        logdir: what `get_logdir` returns.
        warning: logged when the first event comes.
    """

    def __init__(self, logdir: str, warning: str = "") -> None:
        self._logdir = logdir
        self._warning = warning

    def get_logdir(self) -> str:
        """The folder, as the program calls it."""
        return self._logdir

    def add_event(self, event: Event) -> None:  # noqa: ARG002 - as that of `EventFile`
        """Loses the event."""
        if self._warning:
            logger.warning(self._warning)
            self._warning = ""

    def flush(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def _new_name(folder: str) -> str:
    """A name that comes after all others in the folder, which is the order in which TensorBoard reads."""
    found = (_NAME.match(name) for name in os.listdir(folder))
    newest_s = max((int(match[1]) for match in found if match), default=0)
    time_s = max(int(time.time()), newest_s + 1)  # another host's clock may be ahead
    return f"events.out.tfevents.{time_s:010d}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
