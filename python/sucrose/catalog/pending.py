"""`PendingGeneration`: a generation that `Catalog.async_save` has begun."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sucrose.catalog.generation import Generation
    from sucrose.catalog.save_annex import GenerationAnnex
    from sucrose.snapshot.pending import PendingSnapshot


class PendingGeneration:
    """A generation on its way to the disk. Thread-safe; everything is as for `PendingSnapshot`.

    It is committed whether or not anybody waits for it, also when the program ends.

    Example:
        >>> import tempfile, torch
        >>> from sucrose import Catalog, StateDict
        >>> state = StateDict(weight=torch.ones(3))
        >>> pending = Catalog(tempfile.mkdtemp()).async_save(100, {"state": state})
        >>> _ = state["weight"].zero_()
        >>> pending.wait().snapshot().read_object("0/state/weight")
        tensor([1., 1., 1.])
    """

    def __init__(self, pending: PendingSnapshot, annex: GenerationAnnex) -> None:
        self.path = pending.path
        self._pending = pending
        self._annex = annex

    def staged(self) -> bool:
        """Whether the program's tensors may be freed; also once the save has ended, however."""
        return self._pending.staged()

    def wait_staged(self, timeout: float | None = None) -> None:
        """Blocks until the program's tensors may be freed. Their content is safe long before.

        Raises:
            TimeoutError: not within `timeout` seconds.
        """
        self._pending.wait_staged(timeout)

    def done(self) -> bool:
        """Whether the save has ended: committed, failed or cancelled."""
        return self._pending.done()

    def wait(self, timeout: float | None = None) -> Generation:
        """Blocks until the generation is committed, and returns it.

        Raises:
            TimeoutError: not within `timeout` seconds.
            CancelledError: the save was cancelled.
            NotDurableError: the generation is there, but its folder could not be fsynced.
            OSError: the save failed and nothing was committed. Every call raises its error anew.
        """
        self._pending.wait(timeout)
        return self._annex.generation()

    def progress(self) -> tuple[int, int]:
        """Bytes of the data files that are written, and bytes in all. The commit follows the last."""
        return self._pending.progress()

    def cancel(self) -> bool:
        """Stops the save and returns when nothing is left of it; False where it was committed already."""
        return self._pending.cancel()

    def __repr__(self) -> str:
        return f"PendingGeneration({self.path!r})"


class PendingSaves:
    """The saves in the background of this process that have not ended: they are newer than what is on disk.

    Thread-safe; may be used in a signal handler. What is shared changes by single operations of a dict.
    """

    def __init__(self) -> None:
        self._pending: dict[PendingGeneration, tuple[str, int, int]] = {}

    def add(self, pending: PendingGeneration, root: str, timeline: int, step: int) -> None:
        """Notes a save until it has ended."""
        self._pending[pending] = (root, timeline, step)

    def newest(self, root: str) -> tuple[int, int] | None:
        """Timeline and step of the newest one that is not done."""
        for pending in [pending for pending in list(self._pending) if pending.done()]:
            self._pending.pop(pending, None)
        found = [(timeline, step) for where, timeline, step in list(self._pending.values()) if where == root]
        return max(found, default=None)

    def forget_inherited(self) -> None:
        """In a forked child: they go on in the parent alone."""
        self._pending = {}


PENDING = PendingSaves()
"""Those of this process."""

os.register_at_fork(after_in_child=PENDING.forget_inherited)
