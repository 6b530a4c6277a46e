"""Commits in the order of the calls, one after another, behind the program's back.

1. `add` puts a take whose content is safe at the end, and starts a thread where none is at work.
2. The thread waits until the first take is written. Meanwhile it looks at the others: it frees the
   sources of those that are staged, and discards those that are cancelled.
3. It commits the first take and tells everybody who waits. The thread ends with the last take.

The thread is an ordinary one, not a daemon: Python waits for it at the end of the main thread, so
that a save that nobody awaits is committed when the program falls off its end, fails or calls
sys.exit. Once the main thread has ended, takes are finished by the thread that adds them.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from sucrose.errors import CancelledError

if TYPE_CHECKING:
    from sucrose.formats.manifest import SnapshotMetadata
    from sucrose.snapshot.take import StartedTake
    from sucrose.snapshot.take_stats import TakeStats

_LOOK_AROUND_S = 0.1  # between looks at takes that are not the first


class QueuedTake:
    """A take and what became of it. Its fields belong to the lock of the queue."""

    def __init__(self, take: StartedTake, path: str) -> None:
        self.path = path
        self.pid = os.getpid()
        self.take: StartedTake | None = take
        """None once it has ended."""
        self.progress = (0, 0)
        """In the end; until then it is the take's."""
        self.is_late = not threading.main_thread().is_alive()
        """Added when the program had ended already, by a handler or a thread that remained."""
        self.is_cancelled = False
        self.is_committing = False
        """From here on `cancel` comes too late."""
        self.outcome: tuple[SnapshotMetadata, TakeStats] | None = None
        self.error: Exception | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it was committed, has failed, or was cancelled."""
        return self.outcome is not None or self.error is not None


class CommitQueue:
    """Takes on their way to their commits. Thread-safe.

    The lock is one that a thread may take again: a signal handler may come in the middle of any
    method here and save something itself.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._takes: deque[QueuedTake] = deque()
        self._worker: threading.Thread | None = None
        self._untold: deque[QueuedTake] = deque()

    def add(self, queued: QueuedTake) -> None:
        """Step 1. Returns at once, but at the end of a program, where it returns after the commit."""
        with self._changed:
            self._takes.append(queued)
        self._set_to_work()
        if queued.is_late:
            self.wait_ended(queued)

    def request_cancel(self, queued: QueuedTake) -> None:
        """Stops a take, unless its commit has begun. `wait_ended` tells when nothing of it is left."""
        with self._changed:
            take = queued.take
            if take is None or queued.is_committing:
                return
            queued.is_cancelled = True
            if queued not in self._takes:  # its caller was interrupted before adding it
                self._takes.append(queued)
        take.writes.cancel()

    def cancel(self, queued: QueuedTake) -> bool:
        """Stops a take and waits until nothing of it is left; false where it was committed."""
        self.request_cancel(queued)
        self.wait_ended(queued)
        return queued.outcome is None

    def wait_ended(self, queued: QueuedTake, timeout_s: float | None = None) -> bool:
        """Blocks until the take was committed, failed or was cancelled; False on time-out."""
        self._set_to_work()
        with self._changed:
            return self._changed.wait_for(lambda: queued.has_ended, timeout_s)

    def under_way(self) -> list[QueuedTake]:
        """Takes that have not ended, in the order of their commits."""
        with self._changed:
            return list(self._takes)

    def raise_error(self, queued: QueuedTake) -> None:
        """Raises the error of a take that has ended by one; from here on somebody has been told."""
        with self._changed:
            if queued.error is None:
                return
            with suppress(ValueError):
                self._untold.remove(queued)
        raise queued.error.with_traceback(None)  # it may have been raised before

    def raise_untold(self) -> None:
        """Raises the earliest error that nobody has been told of."""
        untold = self.pop_untold()
        if untold is not None:
            self.raise_error(untold)

    def pop_untold(self) -> QueuedTake | None:
        """The earliest failure that nobody has been told of; whoever calls this tells it."""
        with self._changed:
            return self._untold.popleft() if self._untold else None

    def forget_inherited(self) -> None:
        """Empties the queue in a forked child: what is in it goes on in the parent alone."""
        for queued in (*self._takes, *self._untold):
            # Never freed: tickets wait when they are deleted, for threads that only the parent has.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(queued.take))
        self._changed = threading.Condition(threading.RLock())  # the parent may have held the lock
        self._takes.clear()
        self._untold.clear()
        self._worker = None

    def _set_to_work(self) -> None:
        """Sees to it that somebody works on the takes, if there are any."""
        with self._changed:
            if self._worker is not None or not self._takes:
                return
        # Two threads that come here at once start two workers, of which one returns at once.
        # A worker says itself that it is one, so that Ctrl-C in here leaves no false claim.
        if threading.main_thread().is_alive():
            with suppress(RuntimeError):  # too many threads, or the interpreter does not start any more
                threading.Thread(target=self._work, name="sucrose-commit", daemon=False).start()
                return
        self._work()

    def _work(self) -> None:
        with self._changed:
            if self._worker is not None:
                return
            self._worker = threading.current_thread()
        try:
            while True:
                with self._changed:
                    if not self._takes:
                        self._worker = None
                        return
                    first = self._takes[0]
                self._finish(first)
        except BaseException:
            with self._changed:
                self._worker = None
            raise

    def _finish(self, queued: QueuedTake) -> None:
        """Steps 2 and 3 for the first take."""
        take = queued.take
        assert take is not None
        try:
            while not queued.is_cancelled and not take.wait_written(_LOOK_AROUND_S):
                self._look_around(first=queued)
            with self._changed:
                queued.is_committing = not queued.is_cancelled
            if queued.is_committing:
                self._end(queued, outcome=take.commit())
            else:
                self._discard(queued)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
            self._end(queued, error=_cancelled(queued) if queued.is_cancelled else error)
        except BaseException:  # Ctrl-C, where the main thread itself is at work
            self._discard(queued)
            raise

    def _look_around(self, *, first: QueuedTake) -> None:
        for queued in self.under_way():
            if queued.is_cancelled and queued is not first:
                self._discard(queued)
            elif queued.take is not None:
                queued.take.writes.release_staged()

    def _discard(self, queued: QueuedTake) -> None:
        assert queued.take is not None  # only the worker ends takes
        queued.take.abandon()
        self._end(queued, error=_cancelled(queued))

    def _end(
        self,
        queued: QueuedTake,
        *,
        outcome: tuple[SnapshotMetadata, TakeStats] | None = None,
        error: Exception | None = None,
    ) -> None:
        if error is not None:
            _drop_frames(error)
        with self._changed:
            assert queued.take is not None
            queued.progress = queued.take.writes.progress()
            queued.take = None
            queued.outcome = outcome
            queued.error = error
            if error is not None and not isinstance(error, CancelledError):
                self._untold.append(queued)
            self._takes.remove(queued)
            self._changed.notify_all()


def _cancelled(queued: QueuedTake) -> CancelledError:
    return CancelledError(
        f"saving {queued.path!r} was cancelled and nothing was committed; what was there before still is",
        path=queued.path,
    )


def _drop_frames(error: BaseException | None) -> None:
    """Forgets where the error came through: the frames there hold tickets, and callers their tensors."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
