"""From the end of an epoch to its file.

1. An epoch whose file is due is written, from the program's objects themselves.
2. Any other is held: a copy remains until a later epoch is written or held, as the program goes on and
   changes its objects.
3. Leaving writes the epoch that is held. That may be in a signal handler, in the middle of 1 or 2. In 1 the
   program waits for the write and its objects are still those of the epoch's end: they are written again. In 2
   they are as well, until the copy is complete.
4. Between two batches of a tracked loader everything fits together, too: there a checkpoint in the
   middle of an epoch is written, besides that of the epoch before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sucrose.scenarios.checkpoints import CheckpointFolder, HeldEpoch
from sucrose.scenarios.record import Record


class EpochSaving:
    """What has happened to the epochs of one scenario. For one thread, and for signal handlers in it.

    Args:
        folder: where checkpoints are written.
        holds: whether step 2 makes copies.
        writes: asked at each save: False on ranks that leave writing to another.
    """

    def __init__(self, folder: CheckpointFolder, *, holds: bool, writes: Callable[[], bool]) -> None:
        self._folder = folder
        self._holds = holds
        self._writes = writes
        self._held = HeldEpoch()
        self._present: tuple[Mapping[str, Any], Record] | None = None
        """The end of an epoch where the program still is: it waits for step 1 or 2."""
        self._back_at: int | None = None

    def go_back_to(self, epoch: int | None) -> None:
        """The program has loaded that epoch on purpose: later ones are of another branch. None: the newest."""
        self._back_at = epoch

    def is_better(self, record: Record) -> bool:
        """Whether an epoch is among the best, which have files whatever their interval is."""
        return self._writes() and self._folder.is_better(record)

    def finish(self, contents: Mapping[str, Any], record: Record, *, is_due: bool) -> None:
        """An epoch has ended; steps 1 and 2."""
        if not self._writes():
            return
        self._present = contents, record
        try:
            if is_due:
                self._write(contents, record)
                self._held.release()
            elif self._holds:
                self._held.hold(contents, record)
        except BaseException:  # a full disk, Ctrl-C: leaving tries again
            if self._holds and self._present is not None:  # else a signal handler has written it
                self._held.hold(contents, record)
            raise
        finally:
            self._present = None

    def write_mid_epoch(self, contents: Mapping[str, Any], record: Record) -> None:
        """Step 4."""
        if self._writes():
            self._write(contents, record)

    def leave(self) -> None:
        """Step 3. Writes nothing twice.

        Raises:
            OSError: it cannot be written, or an earlier one could not, in the background: this one is then.
        """
        present = self._present
        contents, record = (self._held.contents, self._held.record) if present is None else present
        if contents is None or record is None:
            return
        failure = self._earlier_failure()
        self._write(contents, record)
        self._present = None
        self._held.release()
        if failure is not None:
            raise failure

    def wait(self) -> None:
        """Returns when everything is written."""
        self._folder.wait()

    def _earlier_failure(self) -> Exception | None:
        failure: Exception | None = None
        while True:
            try:
                self._folder.wait()
            except Exception as error:  # noqa: BLE001 - is raised once there is nothing left to write
                failure = failure or error
            else:
                return failure

    def _write(self, contents: Mapping[str, Any], record: Record) -> None:
        if self._back_at is not None:
            self._folder.set_aside_after(self._back_at)
            self._back_at = None
        self._folder.write(contents, record)
