"""Where a checkpoint in the middle of an epoch would be exact: at which of the boundaries of its tracked loaders.

1. One loader leads: the first that is asked for a batch in an epoch. Where another is asked, as in
   ``zip(loader, other)`` or in a loop within the loop, a batch of the leading one has come and is not used yet.
2. In a program that counts its steps, the batches since the last step have gone into gradients, which no
   checkpoint holds: where several batches make a step, the next boundary after it is exact.
3. Outside of the loop over the epochs nothing belongs to an epoch. That is known only of programs that go over
   an `EpochRange`.
"""

from __future__ import annotations


class Boundaries:
    """Hears of every boundary of one run. For one thread.

    Attributes:
        is_in_loop: whether the program is in a loop over an `EpochRange`; None before its first.

    Example:
        >>> from sucrose.scenarios.boundaries import Boundaries
        >>> boundaries = Boundaries()
        >>> boundaries.reach("images", 0), boundaries.reach("noise", 0), boundaries.reach("images", 1)
        (True, False, True)
    """

    def __init__(self) -> None:
        self.is_in_loop: bool | None = None
        self._epoch = 0
        """Where the loop has begun."""
        self._leader: str | None = None
        self._step: int | None = None
        """At the leader's last boundary."""

    def begin_loop(self, epoch: int) -> None:
        """A loop over epochs begins, after `epoch` epochs."""
        self.is_in_loop = True
        self._epoch = epoch
        self.begin_epoch()

    def end_loop(self, epoch: int) -> None:
        """It is over, after `epoch` epochs. One that has made none was not the program's: ``list(epoch_range(3))``."""
        self.is_in_loop = False if epoch > self._epoch else None

    def begin_epoch(self) -> None:
        """The next boundary is the first of an epoch, or of what is left of one."""
        self._leader = self._step = None

    def reach(self, name: str, step: int) -> bool:
        """Whether the boundary of the loader `name`, where `step` steps were made, is an exact one."""
        if self._leader is None:
            self._leader = name
        if self._leader != name:
            return False
        before, self._step = self._step, step
        return before != step or not step  # a program without any step does not count them
