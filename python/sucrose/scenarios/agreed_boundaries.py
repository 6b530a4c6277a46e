"""At which boundary of their loaders all ranks write or stop, where one of them was asked to.

Ranks that train together are at the same boundary when they have asked their tracked loaders for the same number of
batches. A checkpoint of all has to be one boundary's, and a rank that stops at another one leaves the others waiting.
"""

from __future__ import annotations

from sucrose.scenarios.ranks import RunRanks
from sucrose.state.collective.agreed_calls import AgreedCalls

_SAVE = "write a checkpoint"
_STOP = "stop"


class AgreedBoundaries:
    """Those of one run on several ranks. For one thread.

    Attributes:
        saves: from this boundary on all ranks are to write a checkpoint, at the first where that is exact.
        stops: likewise, and to end.
    """

    def __init__(self, ranks: RunRanks) -> None:
        self._calls = AgreedCalls(ranks.apart("boundaries"), "the next batch of a tracked loader")
        self._requested: set[str] = set()
        self.saves = False
        self.stops = False

    def reach(self, *, wants_to_save: bool, has_to_stop: bool) -> None:
        """This rank's next boundary.

        Raises:
            RankError: another rank has come to no boundary for long.
        """
        for what, is_wanted in ((_SAVE, wants_to_save), (_STOP, has_to_stop)):
            if is_wanted and what not in self._requested:
                self._requested.add(what)
                self._calls.request(what)
        due = self._calls.call()
        self.saves = self.saves or _SAVE in due
        self.stops = self.stops or _STOP in due

    def has_saved(self) -> None:
        """All ranks have written a checkpoint, as was wanted."""
        self.saves = False
        self._requested.discard(_SAVE)
