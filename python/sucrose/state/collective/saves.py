"""Saving the states of all ranks, as one of them sees it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from sucrose.errors import ConfigError, RankError
from sucrose.options import current_options
from sucrose.snapshot.main_thread import main_thread_has_ended
from sucrose.state.background_save import BackgroundSave
from sucrose.state.checkpoints import CollectiveCheckpoints
from sucrose.state.collective.calls import Calls
from sucrose.state.collective.equal_states import equal_on_all
from sucrose.state.collective.occasion import Occasion
from sucrose.state.collective.rounds import Round
from sucrose.state.copies import private_copy

if TYPE_CHECKING:
    from sucrose.ranks import Ranks
    from sucrose.state.checkpoints import Checkpoints
    from sucrose.state.values import FrozenState

logger = logging.getLogger(__name__)

Collect = Callable[[], "Mapping[str, FrozenState] | None"]


class CollectiveSaves:
    """The saves of all ranks. One thread at a time begins one; safe in signal handlers.

    Args:
        ranks: of the job.
        checkpoints: where states go.

    Raises:
        ConfigError: they are for programs of one rank.
    """

    def __init__(self, ranks: Ranks, checkpoints: Checkpoints) -> None:
        self.ranks = ranks
        self.calls = Calls(ranks)
        self._checkpoints = collective(checkpoints)
        self._numbers = dict.fromkeys(Occasion, 0)
        self._deleted = dict.fromkeys(Occasion, 0)

    def open(self, occasion: Occasion, *, calls: bool) -> Round:
        """The next round of its kind, in which this rank has not arrived; `calls` for the other ranks.

        Rounds in the background that were called off without this rank are passed over.
        """
        number = self._numbers[occasion] + 1
        this = Round(self.ranks, occasion, number)
        while occasion is Occasion.BACKGROUND and this.verdict() is not None:
            number += 1
            this = Round(self.ranks, occasion, number)
        self._numbers[occasion] = number
        if calls:
            self.calls.call(occasion, number)
        return this

    def skip(self, occasion: Occasion, why: str) -> None:
        """Calls the next round of its kind off, which all ranks come to."""
        own = (self.ranks.rank,)
        self.open(occasion, calls=False).call_off(f"{self.ranks.name(own)} {why}", own, is_skipped=True)

    def is_ahead(self, occasion: Occasion, number: int) -> bool:
        """Whether the round of this number is one that this rank has not come to."""
        return number > self._numbers[occasion]

    def arrive(self, this: Round, collect: Collect, *, copies: bool) -> Mapping[str, FrozenState] | None:
        """Takes this rank's states, of tensors that are not kept still `copies`; None where there are no states.

        Raises:
            Exception: of `collect`; the other ranks are told.
        """
        own = (self.ranks.rank,)
        try:
            states = collect()
            if states is not None and copies:
                states = {key: private_copy(state) for key, state in states.items()}
        except BaseException as error:
            this.call_off(f"{self.ranks.name(own)} cannot save: {type(error).__name__}: {error}", own)
            raise
        if states is None:
            this.call_off(
                f"{self.ranks.name(own)} has nothing to save, or states without a value", own, is_skipped=True
            )
        else:
            this.arrive()
        return states

    def complete(self, this: Round, states: Mapping[str, FrozenState] | None, limit_s: float | None = None) -> bool:
        """Waits for the other ranks and saves; False where a rank has nothing to save.

        Args:
            this: the round, in which this rank has arrived.
            states: this rank's.
            limit_s: how long to wait for the others; None is what the options say.

        Raises:
            RankError: another rank did not come, or has failed.
            OSError: writing failed; earlier checkpoints are untouched.
        """
        verdict = this.wait(lambda: _limit_s(this.occasion) if limit_s is None else limit_s)
        if verdict.is_skipped:
            logger.warning("the states are not saved: %s", verdict.why)
            return False
        if not verdict.is_on:
            raise RankError(f"saving the states of all ranks was called off: {verdict.why}", ranks=verdict.ranks)
        assert states is not None  # else it would not be on
        self._delete_before(this)
        writing = this.begin_writing()
        with writing.begin("comparing states") as exchange:
            replicated = equal_on_all(exchange, states)
        self._checkpoints.save_together(states, writing, replicated)
        return True

    def _delete_before(self, this: Round) -> None:
        """All ranks have come to this round, and so are over with those before, also with what was called off."""
        if self.ranks.rank == 0:
            for number in range(self._deleted[this.occasion] + 1, this.number):
                Round(self.ranks, this.occasion, number).delete()
            self._deleted[this.occasion] = this.number - 1


class CollectivePending(BackgroundSave):
    """A save of all ranks in the background.

    Args:
        saves: of the job.
        this: the round, in which this rank has arrived.
        states: copies of this rank's.
        where: for messages.
    """

    def __init__(self, saves: CollectiveSaves, this: Round, states: Mapping[str, FrozenState], where: str) -> None:
        self._round = this
        self.occasion = this.occasion
        super().__init__(lambda: saves.complete(this, states), where)

    def give_way(self) -> None:
        """Ends it where other ranks have not come yet: a later save of this rank takes its place."""
        own = (self._round.ranks.rank,)
        self._round.call_off(f"{self._round.ranks.name(own)} has gone on to another save", own)


def _limit_s(occasion: Occasion) -> float:
    """How long other ranks are waited for; threads of saves are in the way of the end of the program."""
    options = current_options()
    if occasion is Occasion.END:
        return options.last_save_wait_s
    if not main_thread_has_ended():
        return options.rank_timeout_s
    return 0.0 if occasion is Occasion.BACKGROUND else min(options.last_save_wait_s, options.rank_timeout_s)


def collective(checkpoints: Checkpoints) -> CollectiveCheckpoints:
    """The same as a place for several ranks.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(checkpoints, CollectiveCheckpoints):
        return checkpoints
    raise ConfigError(
        f"the states of programs of several ranks are not kept in {checkpoints.where}, which is for programs of one "
        "process: choose another LATTICE_CHECKPOINT_TYPE, such as local with a root that all ranks share"
    )
