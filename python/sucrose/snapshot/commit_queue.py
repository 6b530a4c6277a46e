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
import math
import os
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from sucrose.errors import CancelledError, NotDurableError
from sucrose.snapshot.main_thread import main_thread_has_ended
from sucrose.snapshot.thread_start import start_thread

if TYPE_CHECKING:
    from sucrose.formats.manifest import SnapshotMetadata
    from sucrose.snapshot.started_take import StartedTake
    from sucrose.snapshot.take_stats import TakeStats

_LOOK_AROUND_S = 0.1  # between looks at takes that are not the first


class QueuedTake:
    """A take and what became of it; that is written by the thread that finishes it, and by no other."""

    def __init__(self, take: StartedTake, path: str) -> None:
        self.path = path
        self.pid = os.getpid()
        self.take: StartedTake | None = take
        """None once it has ended."""
        self.progress = (0, 0)
        """In the end; until then it is the take's."""
        self.is_late = main_thread_has_ended()
        """Added when the program had ended already, by a handler or a thread that remained."""
        self.was_added = False
        self.is_cancelled = False
        """Somebody wants it to be; whether that comes in time is seen in the end."""
        self.waiters: deque[threading.Lock] = deque()
        """Held locks of threads that wait for the end."""
        self.outcome: tuple[SnapshotMetadata | None, TakeStats] | None = None
        self.error: Exception | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it was committed, has failed, or was cancelled."""
        return self.outcome is not None or self.error is not None

    @property
    def is_in_place(self) -> bool:
        """Whether it has ended with what it saved at its path, durable or not."""
        return self.outcome is not None or isinstance(self.error, NotDurableError)


class CommitQueue:
    """Takes on their way to their commits. Thread-safe.

    No lock is held but by the thread at work, and nothing of threading that takes locks itself is
    used for waiting: a signal handler may come in the middle of any method here, save and wait for
    that, or raise. What is shared changes by single operations of deques.
    """

    def __init__(self) -> None:
        self._takes: deque[QueuedTake] = deque()
        self._at_work = threading.Lock()
        """Held by the one thread that finishes takes."""
        self._untold: deque[QueuedTake] = deque()

    def add(self, queued: QueuedTake) -> None:
        """Step 1. Returns at once, but at the end of a program, where it returns after the commit."""
        self._takes.append(queued)
        queued.was_added = True
        self._set_to_work()
        if queued.is_late:
            self.wait_ended(queued)

    def request_cancel(self, queued: QueuedTake) -> None:
        """Stops a take, unless its commit has begun. `wait_ended` tells when nothing of it is left."""
        queued.is_cancelled = True
        take = queued.take
        if take is not None:
            take.cancel(_cancelled(queued))
            if not queued.was_added:  # its caller was interrupted before, or perhaps just after, adding it
                self._takes.append(queued)

    def give_up(self, queued: QueuedTake) -> None:
        """As `request_cancel`; and a commit that has begun does not wait for other ranks any more."""
        self.request_cancel(queued)
        take = queued.take
        if take is not None:
            take.give_up_waiting()

    def cancel(self, queued: QueuedTake) -> bool:
        """Stops a take and waits until nothing of it is left; false where it was committed."""
        self.request_cancel(queued)
        self.wait_ended(queued)
        return not queued.is_in_place

    def wait_ended(self, queued: QueuedTake, timeout_s: float | None = None) -> bool:
        """Blocks until the take was committed, failed or was cancelled; False on time-out."""
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        waiter = threading.Lock()
        waiter.acquire()
        queued.waiters.append(waiter)
        while not queued.has_ended and (left_s := deadline - time.monotonic()) > 0:
            self._set_to_work()  # again and again: whoever was at work may have been interrupted
            waiter.acquire(timeout=min(left_s, _LOOK_AROUND_S))
        with suppress(ValueError):
            queued.waiters.remove(waiter)
        return queued.has_ended

    def under_way(self) -> list[QueuedTake]:
        """Takes that have not ended, in the order of their commits."""
        return [queued for queued in self._takes.copy() if not queued.has_ended]

    def raise_error(self, queued: QueuedTake) -> None:
        """Raises the error of a take that has ended by one; from here on somebody has been told."""
        if queued.error is not None:
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
        for queued in self._untold.copy():
            if queued.has_ended:
                with suppress(ValueError):  # another thread tells it
                    self._untold.remove(queued)
                    return queued
        return None

    def forget_inherited(self) -> None:
        """Empties the queue in a forked child: what is in it goes on in the parent alone."""
        for queued in (*self._takes, *self._untold):
            # Never freed: tickets wait when they are deleted, for threads that only the parent has.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(queued.take))
        self._at_work = threading.Lock()
        self._takes.clear()
        self._untold.clear()

    def _set_to_work(self) -> None:
        """Sees to it that somebody works on the takes, if there are any."""
        if not self._takes or self._at_work.locked():
            return
        # Two threads that come here at once start two workers, of which one returns at once.
        if main_thread_has_ended() or not start_thread(self._work, "sucrose-commit"):
            self._work()

    def _work(self) -> None:
        # Who finds the lock taken may leave: its holder looks at the takes once more after releasing it.
        while self._takes and self._at_work.acquire(blocking=False):
            try:
                self._work_alone()
            finally:
                self._at_work.release()

    def _work_alone(self) -> None:
        while self._takes:
            first = self._takes[0]
            if not first.has_ended:
                self._finish(first)
            with suppress(ValueError):  # interrupted before, where the main thread is at work
                self._takes.remove(first)

    def _finish(self, queued: QueuedTake) -> None:
        """Steps 2 and 3 for the first take."""
        take = queued.take
        assert take is not None
        is_committing = False
        try:
            while not queued.is_cancelled and not take.wait_written(_LOOK_AROUND_S):
                self._look_around(first=queued)
            is_committing = not queued.is_cancelled
            if is_committing:
                self._end(queued, outcome=take.commit())
            else:
                self._discard(queued)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
            self._end(queued, error=_cancelled(queued) if queued.is_cancelled and not is_committing else error)
        except BaseException:  # Ctrl-C, where the main thread itself is at work
            if not queued.has_ended:
                self._discard(queued)
            raise

    def _look_around(self, *, first: QueuedTake) -> None:
        for queued in self.under_way():
            if queued.is_cancelled and queued is not first:
                self._discard(queued)
            elif queued.take is not None:
                queued.take.writes.release_staged()

    def _discard(self, queued: QueuedTake) -> None:
        assert queued.take is not None  # only the thread at work ends takes
        error = _cancelled(queued)
        queued.take.abandon(error)
        self._end(queued, error=error)

    def _end(
        self,
        queued: QueuedTake,
        *,
        outcome: tuple[SnapshotMetadata | None, TakeStats] | None = None,
        error: Exception | None = None,
    ) -> None:
        assert queued.take is not None
        queued.progress = queued.take.writes.progress()
        if error is not None:
            _drop_frames(error)
            if not isinstance(error, CancelledError):
                self._untold.append(queued)  # before anybody can be told, who takes it out again
        queued.outcome = outcome
        queued.error = error
        queued.take = None
        with suppress(ValueError):
            self._takes.remove(queued)
        for waiter in queued.waiters.copy():
            with suppress(RuntimeError):  # it has come to its time-out, and was acquired by nobody
                waiter.release()


def _cancelled(queued: QueuedTake) -> CancelledError:
    return CancelledError(
        f"saving {queued.path!r} was cancelled and nothing was committed; what was there before still is",
        path=queued.path,
    )


def _drop_frames(error: BaseException | None) -> None:
    """Forgets where the error came through: the frames there hold tickets, and callers their tensors."""
    seen: set[int] = set()  # an error may be its own cause
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
