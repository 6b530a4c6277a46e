"""Running a program again, quickly, until it is where it was interrupted.

1. Each pass over a loader that the program trains with yields a single batch, and optimizers do not step.
   So the program's own variables and loops come to where they were: the number of the epoch, in
   particular. A pass without training, an evaluation, yields all its batches: what the program computes from
   it, and decides by, is of the restored model then, and not of one batch.
2. The pass that was interrupted yields a single batch, too, counted as the last one that was used. When
   the program asks for the next, it is where it was.
3. Everything gets its state back, the interrupted passes are begun as they were the first time and
   brought to their places, the generators get the states that they had there, and the program goes on.

Should the program not come to the place, because it decides by what it computes, it goes on where a pass
begins that would train on, or where an interrupted pass is asked for more.
"""

from __future__ import annotations

import copy
import logging
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from sucrose.autopatch.counting import note_skipped
from sucrose.autopatch.position import OUTSIDE, Event, Position, UnfinishedPass
from sucrose.options import current_options

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

logger = logging.getLogger(__name__)

Make = Callable[["DataLoader[Any]"], Any]


class ReplayedPass:
    """What the program iterates over during the replay; in an interrupted pass it goes on with a real iterator.

    Args:
        replay: asks for batches.
        loader: of this pass.
        event: that the program asks this pass for a batch.
        saved: what is known of it; None where it was over.
        make: the loader's own ``__iter__``.
        is_whole: it yields all its batches, not one.
    """

    def __init__(
        self,
        replay: Replay,
        loader: DataLoader[Any],
        event: Event,
        saved: UnfinishedPass | None,
        make: Make,
        *,
        is_whole: bool,
    ) -> None:
        self._replay = replay
        self.loader = loader
        self.event = event
        self.saved = saved
        self.make = make
        self.is_whole = is_whole
        self.batches: Any = None
        """A real iterator of a pass that is replayed as a whole."""
        self.has_yielded = False
        self.is_over = False
        self.source: Any = None
        """A real iterator, once the replay is over."""
        self.unreported = 0
        """Batches that were skipped, and are not counted yet."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._replay.next_batch(self)

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        if name == "source" or self.source is None:
            raise AttributeError(f"a pass that is replayed has no {name!r}")
        return getattr(self.source, name)


class Replay:
    """Knows which event is waited for.

    Args:
        position: of the earlier run.
        finish: step 3; is told why, where that is not the event itself.
        deliver: delivers a batch of a pass that is not replayed any more; False: it was asked for before step 3.
    """

    def __init__(
        self,
        position: Position,
        finish: Callable[[str | None], None],
        deliver: Callable[[ReplayedPass, bool], Any],
    ) -> None:
        self.position = position
        self.is_over = False
        self._finish = finish
        self._deliver = deliver
        self._begun: dict[str, int] = {}
        self._passes: list[weakref.ref[ReplayedPass]] = []
        """Not known to be over."""
        self._batches: dict[str, Any] = {}
        """One of each loader that has workers."""

    def begin_pass(self, key: str, loader: DataLoader[Any], make: Make) -> ReplayedPass | None:
        """An iterator for the replay; None where that is over."""
        number = self._begun.get(key, 0)
        if self.position.event == Event("iter", key, number):
            self._finish(None)
            return None
        is_new = number >= self.position.begun.get(key, 0)
        if is_new and not self._under_way() and (self._has_come_to_the_end() or key in self.position.trained):
            self._finish(None if self.position.event == OUTSIDE else f"pass {number} over {key} begins")
            return None
        self._begun[key] = number + 1
        saved = self.position.unfinished_pass(key, number)
        is_whole = saved is None and key not in self.position.trained and current_options().loader_skip == "exact"
        replayed = ReplayedPass(self, loader, Event("next", key, number), saved, make, is_whole=is_whole)
        self._passes.append(weakref.ref(replayed, self._note_death))
        return replayed

    def next_batch(self, one: ReplayedPass) -> Any:
        """Step 2, and the end of passes that were over."""
        if one.source is not None:
            note_skipped(one.unreported)
            one.unreported = 0
            return self._deliver(one, True)
        if one.is_over or self.is_over:
            raise StopIteration
        used = 0 if one.saved is None else one.saved.used
        if one.saved is not None and (one.has_yielded or not used):
            is_expected = one.event == self.position.event
            self._finish(None if is_expected else f"{one.event.loader} is asked for batch {used} already")
            return self._deliver(one, False)
        if one.is_whole:
            return self._next_of_all(one)
        if one.has_yielded:
            self._end(one)
            raise StopIteration
        note_skipped(max(0, used - 1))
        try:
            batch = self._any_batch(one)
        except StopIteration:
            self._end(one)
            raise
        one.has_yielded = True
        if one.saved is not None:  # what begins in the body that runs now, began there
            self._begun = dict(one.saved.begun)
        return batch

    def finish_if_due(self) -> None:
        """The last pass of the earlier run may have ended without anybody being told."""
        if not self.is_over and self.position.event == OUTSIDE and self._has_come_to_the_end():
            self._finish(None)

    def interrupted_passes(self) -> list[tuple[UnfinishedPass, ReplayedPass]]:
        """What was interrupted, and what the program iterates over in its place."""
        pairs = []
        taken: list[ReplayedPass] = []
        for saved in self.position.unfinished:
            loader = saved.loader
            candidates = [one for one in self._under_way() if one.event.loader == loader and one not in taken]
            if not candidates:
                logger.debug("nothing iterates over %s any more", loader)
                continue
            # A pass that the program begins anew whenever it ends may be at an earlier one than it was.
            one = next((other for other in candidates if other.saved is saved), candidates[-1])
            one.unreported = 0 if one.saved is saved else max(0, saved.used - 1)
            taken.append(one)
            pairs.append((saved, one))
        return pairs

    def _next_of_all(self, one: ReplayedPass) -> Any:
        if one.batches is None:
            one.batches = one.make(one.loader)
        try:
            return next(one.batches)
        except StopIteration:
            self._end(one)
            raise

    def _any_batch(self, one: ReplayedPass) -> Any:
        loader, key = one.loader, one.event.loader
        if key not in self._batches:
            batch = next(one.make(loader))
            if loader.num_workers:  # starting them for each pass would take longer than all else
                self._batches[key] = _copy(batch)
            return batch
        if not _is_of_torch(loader.sampler) or not _is_of_torch(loader.batch_sampler):
            next(iter(loader.batch_sampler or loader.sampler), None)  # it may count its passes
        return _copy(self._batches[key])

    def _end(self, one: ReplayedPass) -> None:
        one.is_over = True
        self.finish_if_due()

    def _note_death(self, reference: weakref.ref[ReplayedPass]) -> None:
        if reference in self._passes:
            self._passes.remove(reference)

    def _under_way(self) -> list[ReplayedPass]:
        passes = [reference() for reference in self._passes]
        return [one for one in passes if one is not None and not one.is_over]

    def _has_come_to_the_end(self) -> bool:
        """Whether all passes of the earlier run have begun, and those that were over are over."""
        has_begun = all(self._begun.get(key, 0) >= number for key, number in self.position.begun.items())
        return has_begun and not self._under_way()


def _copy(batch: Any) -> Any:
    try:
        return copy.deepcopy(batch)
    except Exception:  # noqa: BLE001 - whatever the program's own classes raise
        return batch


def _is_of_torch(sampler: Any) -> bool:
    return sampler is None or type(sampler).__module__.startswith("torch.")
