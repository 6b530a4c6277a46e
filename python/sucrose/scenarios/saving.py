"""From the end of an epoch to its file.

1. An epoch whose file is due is written, from the program's objects themselves.
2. Any other is held: a copy remains until a later epoch is written or held, as the program goes on and
   changes its objects.
3. Leaving writes the epoch that is held. That may be in a signal handler, in the middle of 1 or 2. In 1 the
   program waits for the write and its objects are still those of the epoch's end: they are written again. In 2
   they are as well, until the copy is complete.
4. Between two batches of a tracked loader everything fits together, too: there a checkpoint in the
   middle of an epoch is written, besides that of the epoch before it.
5. Several ranks: a file is rank 0's business, and the others wait for it in 1. Snapshots are written by all ranks in
   one call, and each holds its part. Leaving is no such call where it comes at the exit or in a signal handler: there
   the ranks meet for a short while, and write where all hold the same epoch. Else it is lost, and made again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from sucrose.errors import RankError
from sucrose.options import current_options
from sucrose.scenarios.checkpoints import CheckpointFolder, HeldEpoch
from sucrose.scenarios.ranks import RunRanks, Together, any_rank, rank, shown_alive
from sucrose.scenarios.record import Record
from sucrose.scenarios.replicated import Replicated

logger = logging.getLogger(__name__)


class EpochSaving:
    """What has happened to the epochs of one scenario. For one thread, and for signal handlers in it.

    Args:
        folder: where checkpoints are written.
        holds: whether step 2 makes copies.
        ranks: with whom.
    """

    def __init__(self, folder: CheckpointFolder, *, holds: bool, ranks: RunRanks) -> None:
        self._folder = folder
        self._holds = holds
        self._ranks = ranks
        self._replicated: Replicated | None = None
        self._held = HeldEpoch()
        self._present: tuple[Mapping[str, Any], Record] | None = None
        """The end of an epoch where the program still is: it waits for step 1 or 2."""
        self._back_at: int | None = None
        self._missed: Record | None = None
        """The epoch for which other ranks were waited for in vain."""

    def go_back_to(self, epoch: int | None) -> None:
        """The program has loaded that epoch on purpose: later ones are of another branch. None: the newest."""
        self._back_at = epoch

    @property
    def is_by_all(self) -> bool:
        """Whether all of several ranks write together."""
        return self._folder.names.are_snapshots and self._ranks.are_several

    @property
    def _writes(self) -> bool:
        return self.is_by_all or rank() == 0

    def is_better(self, record: Record) -> bool:
        """Whether an epoch is among the best, which have files whatever their interval is. For rank 0."""
        return rank() == 0 and self._folder.is_better(record)

    def finish(
        self,
        contents: Mapping[str, Any],
        record: Record,
        *,
        is_due: bool,
        together: Together,
        replicated: Replicated | None,
    ) -> None:
        """An epoch has ended on all ranks; steps 1 and 2."""
        if not self._writes:
            if is_due and self._ranks.are_several:
                self._write(contents, record, together)
            return
        self._present = contents, record
        self._replicated = replicated
        holds = self._holds and not (replicated and replicated.sharded)
        try:
            if is_due:
                self._write(contents, record, together)
                self._held.release()
            elif holds:
                self._hold(contents, record, together)
        except BaseException:  # a full disk, Ctrl-C: leaving tries again
            if holds and self._present is not None:  # else a signal handler has written it
                self._held.hold(contents, record)
            raise
        finally:
            self._present = None

    def write_mid_epoch(
        self, contents: Mapping[str, Any], record: Record, *, together: Together, replicated: Replicated | None
    ) -> None:
        """Step 4. In a call of all ranks, or where rank 0 writes a file by itself."""
        if self._writes or together.exchange.world_size > 1:
            self._replicated = replicated
            self._write(contents, record, together)

    def leave(self, together: Together | None = None) -> None:
        """Step 3. Writes nothing twice.

        Args:
            together: the call of all ranks that this is part of; None at the exit, and in signal handlers.

        Raises:
            OSError: it cannot be written, or an earlier one could not, in the background: this one is then.
            RankError: another rank has failed in `together`.
        """
        if self.is_by_all:
            self._leave_by_all(together)
            return
        present = self._present
        contents, record = (self._held.contents, self._held.record) if present is None else present
        if contents is None or record is None:
            return
        alone = Together.alone()
        with shown_alive((together or alone).exchange):
            failure = self._earlier_failure()
            self._write(contents, record, alone)
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

    def _leave_by_all(self, together: Together | None) -> None:
        """Step 5: what all ranks hold is written, and nothing in the middle of a write of theirs."""
        contents, record = self._held.contents, self._held.record
        if contents is None or record is None or self._present is not None:
            return
        if together is None and self._missed is record:  # by the handler of SIGTERM; now it is the exit
            return
        try:
            if together is not None:
                self._write_held(contents, record, together)
            else:
                limit_s = current_options().last_save_wait_s
                with self._ranks.before_the_end(f"leaving after epoch {record.epoch}", limit_s) as meeting:
                    meeting.exchange.agree("all hold the epoch")
                    self._write_held(contents, record, meeting)
        except RankError as error:
            if together is not None:
                raise
            self._missed = record
            logger.warning(
                "epoch %d is not saved, as that takes all ranks; a resumed run makes it again: %s", record.epoch, error
            )

    def _write_held(self, contents: Mapping[str, Any], record: Record, together: Together) -> None:
        self._write(contents, record, together)
        self._held.release()

    def _hold(self, contents: Mapping[str, Any], record: Record, together: Together) -> None:
        """Step 2: by all ranks, or by none, where each has its part."""
        is_held = self._held.hold(contents, record)
        if self.is_by_all and any_rank(together.exchange, "an epoch that cannot be held", flag=not is_held):
            self._held.release()

    def _write(self, contents: Mapping[str, Any], record: Record, together: Together) -> None:
        if self._back_at is not None:
            if together.exchange.rank == 0:
                self._folder.set_aside_after(self._back_at)
            self._back_at = None
        self._folder.write(contents, record, together=together, replicated=self._replicated)
