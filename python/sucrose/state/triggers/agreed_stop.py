"""Stopping, and saving in the background, at the same call on all ranks."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from sucrose.errors import RankError
from sucrose.state.collective.agreed_calls import STOP, AgreedCalls
from sucrose.state.triggers.process import PROCESS
from sucrose.state.triggers.warned import save_agreed

if TYPE_CHECKING:
    from sucrose.ranks import Ranks

logger = logging.getLogger(__name__)

_SAVE = "save"


class _Agreement:
    def __init__(self) -> None:
        self.calls: AgreedCalls | None = None
        self.has_requested_stop = False
        self.is_agreed = False
        self.is_alone = False
        """The store is gone."""

    def should_stop(self, ranks: Ranks) -> bool:
        if self.is_agreed or self.is_alone:
            return self.is_agreed or PROCESS.should_stop
        if self.calls is None:
            self.calls = AgreedCalls(ranks)
        try:
            self._request(self.calls)
            due = self.calls.call()
        except RankError as error:
            if self.calls.missing:
                raise
            logger.warning("the ranks do not agree on when to stop any more, each decides by itself: %s", error)
            self.is_alone = True
            return PROCESS.should_stop
        if _SAVE in due:
            save_agreed()
        self.is_agreed = STOP in due
        return self.is_agreed

    def _request(self, calls: AgreedCalls) -> None:
        if PROCESS.should_stop and not self.has_requested_stop:
            self.has_requested_stop = True
            calls.request(STOP)
        if PROCESS.save_is_due and not PROCESS.saves_at_boundaries:
            PROCESS.save_is_due = False
            calls.request(_SAVE)


class _OfProcess:
    agreement = _Agreement()


def should_stop_with_others(ranks: Ranks) -> bool:
    """Whether all ranks are to stop at this call, see `agreed_calls`."""
    return _OfProcess.agreement.should_stop(ranks)


def _forget() -> None:
    _OfProcess.agreement = _Agreement()


os.register_at_fork(after_in_child=_forget)
