"""`PendingSnapshot`: a snapshot that `Snapshot.async_take` has begun."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sucrose.errors import ForkError
from sucrose.snapshot.process_end import COMMITS

if TYPE_CHECKING:
    from sucrose.formats.manifest import SnapshotMetadata
    from sucrose.snapshot.commit_queue import QueuedTake
    from sucrose.snapshot.snapshot import Snapshot
    from sucrose.snapshot.take_stats import TakeStats

_POLL_S = 0.005


class PendingSnapshot:
    """A snapshot on its way to the disk. Thread-safe.

    It is committed whether or not anybody waits for it, and whether or not this object is kept. In a
    forked child every method raises `ForkError`: the save goes on in the parent.

    Example:
        >>> import tempfile, torch
        >>> from sucrose import Snapshot, StateDict
        >>> state = StateDict(step=100, weight=torch.ones(3))
        >>> pending = Snapshot.async_take(tempfile.mkdtemp() + "/step_100", {"state": state})
        >>> _ = state["weight"].zero_()
        >>> pending.wait().read_object("0/state/weight")
        tensor([1., 1., 1.])
    """

    def __init__(self, queued: QueuedTake, refer: Callable[[SnapshotMetadata | None, TakeStats], Snapshot]) -> None:
        self.path = queued.path
        self._queued = queued
        self._refer = refer

    def staged(self) -> bool:
        """Whether the program's tensors may be freed; also once the save has ended, however."""
        self._check_process()
        take = self._queued.take
        return take is None or take.writes.release_staged()

    def wait_staged(self, timeout: float | None = None) -> None:
        """Blocks until the program's tensors may be freed. Their content is safe long before.

        A save that fails or is cancelled needs them no more either: `wait` tells of that.

        Raises:
            TimeoutError: not within `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.staged():
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"the tensors of {self.path!r} are still being copied after {timeout} s")
            time.sleep(_POLL_S)

    def done(self) -> bool:
        """Whether the save has ended: committed, failed or cancelled."""
        self._check_process()
        return self._queued.has_ended

    def wait(self, timeout: float | None = None) -> Snapshot:
        """Blocks until the snapshot is committed, and returns a reference to it.

        Ctrl-C and time-outs leave the save as it is; it can be waited for again.

        Raises:
            TimeoutError: not within `timeout` seconds.
            CancelledError: the save was cancelled.
            NotDurableError: the snapshot is at its path, but its folder could not be fsynced.
            OSError: the save failed and nothing was committed. Every call raises its error anew.
        """
        self._check_process()
        if not COMMITS.wait_ended(self._queued, timeout):
            done, total = self.progress()
            raise TimeoutError(f"{self.path!r}: {done} of {total} bytes were written after {timeout} s")
        COMMITS.raise_error(self._queued)
        assert self._queued.outcome is not None
        return self._refer(*self._queued.outcome)

    def progress(self) -> tuple[int, int]:
        """Bytes of the data files that are written, and bytes in all. The commit follows the last."""
        self._check_process()
        take = self._queued.take
        return self._queued.progress if take is None else take.writes.progress()

    def cancel(self) -> bool:
        """Stops the save and returns when nothing is left of it.

        Returns:
            False where it was committed already. Otherwise what was at the path before still is, and
            `wait` raises `CancelledError`, or the error that came first.
        """
        self._check_process()
        return COMMITS.cancel(self._queued)

    def __repr__(self) -> str:
        return f"PendingSnapshot({self.path!r})"

    def _check_process(self) -> None:
        if os.getpid() != self._queued.pid:
            raise ForkError(
                f"{self.path!r} is being saved by process {self._queued.pid} and cannot be waited for, asked or "
                f"cancelled in its forked child {os.getpid()}: do that in the parent",
                path=self.path,
            )
