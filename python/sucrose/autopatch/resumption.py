"""From the state of an earlier run to a program that goes on from there."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

from sucrose.autopatch.counting import count_as_usual, count_skipped
from sucrose.autopatch.gradients import Gradients
from sucrose.autopatch.objects import Objects, shorten
from sucrose.autopatch.position import OUTSIDE, Position, UnfinishedPass
from sucrose.autopatch.replay import Replay, ReplayedPass
from sucrose.autopatch.timeline import Timeline
from sucrose.data_order.restarting import restart
from sucrose.errors import FormatVersionError, StateMismatchError

logger = logging.getLogger(__name__)

VERSION = 1
"""Of the state that `TrainingState` saves."""


class Resumption:
    """The state of an earlier run, until everything has it.

    1. *Pending*: nothing was done with it. With the first pass over a loader the replay begins. Where the
       earlier run had no passes, everything is restored when the program first uses what it has made:
       later than its initialisation, which could overwrite what was restored.
    2. *Replaying*: see `replay`.
    3. Over.

    Args:
        load: makes the state.
        objects: what gets it.
        timeline: what is told where the program is.
        gradients: likewise.
        deliver: delivers a batch of a pass; see `Replay`.
    """

    def __init__(
        self,
        load: Callable[[], Any],
        objects: Objects,
        timeline: Timeline,
        gradients: Gradients,
        deliver: Callable[[ReplayedPass, bool], Any],
    ) -> None:
        self.replay: Replay | None = None
        self.is_over = False
        self.swallow: Counter[str] = Counter()
        """Steps of optimizers and schedulers that are not to be made again, after this is over."""
        self._load = load
        self._objects = objects
        self._timeline = timeline
        self._gradients = gradients
        self._deliver = deliver
        self._saved: dict[str, Any] = {}
        self._position: Position | None = None
        self._is_busy = False
        """Torch is called from here, not by the program."""
        self._is_checked = False
        """All that has a saved state was made, and fits."""
        self._skipped_files: set[str] = set()
        count_skipped()

    @property
    def is_replaying(self) -> bool:
        return self.replay is not None and not self.is_over

    def begin_replay(self) -> None:
        """A pass begins, the first one.

        Raises:
            StateMismatchError: nothing is to be replayed, and the state does not fit.
        """
        position = self._thaw()
        if not position.begun and position.event == OUTSIDE:
            self._restore(position)
            return
        self.replay = Replay(position, self._finish, self._deliver)
        logger.warning(
            "resuming after %d optimizer steps: training is passed over until the program is where it was, and what it "
            "reports is of the restored model",
            position.steps,
        )

    def prepare_pass(self) -> None:
        """A pass is about to be replayed: what the program computes in it is to be of the saved modules.

        Raises:
            StateMismatchError: the state does not fit to what the program has made.
        """
        self._is_busy = True
        if not self._is_checked and not self._objects.missing(self._saved["objects"]):
            self._check()
        self._objects.load_modules(self._saved["objects"]["modules"])
        self._is_busy = False

    def note_use(self, *, is_training: bool) -> None:
        """The program uses what it has made.

        Args:
            is_training: so everything has been made; otherwise the program may still be at it.

        Raises:
            StateMismatchError: the state does not fit.
        """
        if self._is_busy:
            return
        if self.replay is not None:
            self.replay.finish_if_due()
            return
        position = self._thaw()
        if position.begun or position.event != OUTSIDE:
            return
        if is_training or not self._objects.missing(self._saved["objects"]):
            self._restore(position)

    def skips_save(self, file: Any) -> bool:
        """Whether `torch.save` has nothing to write: a file of the earlier run is not replaced by one of the replay."""
        if not self.is_replaying or not isinstance(file, (str, os.PathLike)) or not os.path.exists(file):
            return False
        path = os.fspath(file)
        if path not in self._skipped_files:
            self._skipped_files.add(path)
            logger.warning("%s is not written again until the program is where it was", path)
        return True

    def _thaw(self) -> Position:
        if self._position is None:
            saved = self._load()
            if saved["version"] > VERSION:
                raise FormatVersionError(
                    f"the state of autopatch is of version {saved['version']}, this release knows {VERSION}: update "
                    "torch-sucrose, or begin anew with another root"
                )
            self._saved = saved
            self._position = Position.from_state(saved["position"])
        return self._position

    def _check(self) -> None:
        mismatches = self._objects.mismatches(self._saved["objects"])
        if mismatches:
            raise StateMismatchError(
                f"the program cannot be resumed, it differs from the one that was interrupted: {shorten(mismatches)}. "
                "Undo the change, or begin anew with another root."
            )
        self._is_checked = True

    def _finish(self, reason: str | None) -> None:
        assert self.replay is not None
        if reason is not None:
            logger.warning(
                "the program has not come to where it was interrupted, probably because it decides by what it "
                "computes; it goes on where %s",
                reason,
            )
        self._restore(self.replay.position)

    def _restore(self, position: Position) -> None:
        self._is_busy = True
        self._check()
        saved, objects = self._saved, self._objects
        objects.hold()
        generators = objects.generators
        resumed: list[tuple[UnfinishedPass, ReplayedPass]] = []
        if self.replay is not None:
            resumed = self.replay.interrupted_passes()
        for unfinished, replayed in resumed:
            replayed.source = restart(unfinished, replayed.loader, replayed.make, generators)
        objects.load(saved["objects"])
        self._timeline.resume(position)
        for unfinished, replayed in resumed:
            self._timeline.resume_pass(unfinished, replayed)
        self._gradients.resume(objects.optimizers.living(), saved["pending_gradients"])
        self.swallow = Counter(position.swallow)
        if self.replay is not None:
            self.replay.is_over = True
        self.is_over = True
        self._saved = {}
        count_as_usual()
        on = (
            "goes on"
            if position.begun
            else "has no loader that tells where its loop was: it makes all its steps from here"
        )
        logger.warning("resumed: %d optimizer steps were made, the program %s", position.steps, on)
        position.random.apply(generators)
