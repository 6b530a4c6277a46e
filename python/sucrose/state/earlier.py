"""The states that this run began with: those of the newest checkpoint that was valid."""

from __future__ import annotations

import logging
from collections.abc import Container

from sucrose.errors import StateMismatchError, UnsafeObjectError
from sucrose.state.checkpoints import Checkpoints, SavedStates
from sucrose.state.collective.looking_up import LookUps
from sucrose.state.values import FrozenState, thaw

logger = logging.getLogger(__name__)


class EarlierStates:
    """Hands each state of one checkpoint to whoever registers its key, and keeps the others.

    The checkpoint is looked for when it is first needed. It stays where it is until all of it was read;
    after that newer ones may take its place. Of a checkpoint that is not trusted a state that could run code
    is neither handed out nor kept: saved again it would be this user's own. Thread-safe, and safe in signal
    handlers.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self._look_ups = LookUps(checkpoints)
        self._saved: SavedStates | None = None
        self._was_looked_up = False
        self._unread: dict[str, None] = {}
        self._kept: dict[str, FrozenState] = {}
        self.distrust: str | None = None
        """Why pickles of it must not run code; None: they may."""

    def look_again(self) -> bool:
        """Begins anew with what is the newest checkpoint now; False where there is none."""
        self._close()
        self._kept = {}
        self._was_looked_up = False
        self._look_up()
        return self._saved is not None

    def find(self, key: str) -> FrozenState | None:
        """The state; None where there is none. It is carried along until it is dropped, or its key is taken.

        Raises:
            CorruptionError: it cannot be read any more.
            UnsafeObjectError: it could run code, and the checkpoint is not to be trusted. It is not carried along.
            StateMismatchError: it is another rank's. It is not carried along.
        """
        self._look_up()
        if key in self._unread:
            self._keep(key)
        return self._kept.get(key)

    def drop(self, key: str) -> None:
        """Forgets a state: it was deleted, or somebody else has it."""
        self._look_up()
        self._unread.pop(key, None)
        self._kept.pop(key, None)

    def drop_all(self) -> None:
        """Forgets all states."""
        self._look_up()
        self._close()
        self._kept = {}

    def carried_along(self, taken: Container[str]) -> dict[str, FrozenState]:
        """All that were not dropped, but for those that go by a key that is `taken`."""
        self._look_up()
        for key in [*self._unread]:
            if key not in taken:
                try:
                    self._keep(key)
                except (UnsafeObjectError, StateMismatchError) as error:
                    logger.error("a state of the last run is not carried along: %s", error)  # noqa: TRY400
        self._close()
        return {key: state for key, state in self._kept.copy().items() if key not in taken}

    def _keep(self, key: str) -> None:
        assert self._saved is not None
        try:
            state = self._saved.read(key)
        except StateMismatchError:
            self._unread.pop(key, None)
            raise
        if self.distrust is not None:
            try:
                thaw(state, key=key, source=self._checkpoints.where, distrust=self.distrust)
            except UnsafeObjectError:
                self._unread.pop(key, None)
                raise
        self._kept[key] = state
        self._unread.pop(key, None)

    def _look_up(self) -> None:
        if not self._was_looked_up:
            self._saved = self._look_ups.newest()
            if self._saved is not None:
                self._unread = dict.fromkeys(self._saved.keys())
                self.distrust = self._saved.distrust
            self._was_looked_up = True

    def _close(self) -> None:
        self._unread = {}
        if self._saved is not None:
            self._saved.close()
